"""The Prometheus metrics of the service: names, descriptions, labels and buckets."""

from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from service.errors import CONNECTIONS_REFUSED, REFUSALS
from service.telemetry.cache_counters import CacheCounters
from service.telemetry.query_instruments import QueryInstruments

# From a cache hit to the default deadline, about five buckets per decade.
SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 60,
)  # fmt: skip


class Instruments(QueryInstruments):
    """One attribute for each metric, in a registry of its own."""

    def __init__(self) -> None:
        """Register all metrics, so that each one is exposed before the first request."""
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        for add in (
            self._add_requests,
            self._add_queries,
            self._add_batches,
            self._add_state,
            self._add_reloads,
            self._add_changes,
        ):
            add(registry)
        for metric in vars(self).values():
            if isinstance(metric, Counter | Histogram):  # the library finds a child under a lock
                metric.labels = cache(metric.labels)  # type: ignore[assignment, method-assign]

    def _add_requests(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "clear_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its response.",
            ["route", "method", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "clear_stage_duration_seconds",
            "Time of each stage of a request.",
            ["route", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("clear_requests_in_flight", "Requests in flight.", registry=registry)
        self.refusals = Counter(
            REFUSALS,
            "Requests refused or cancelled, by reason.",
            ["reason"],
            registry=registry,
        )
        self.key_requests = Counter(
            "clear_key_requests_total",
            "Requests by key: accepted, or refused by the key's rate or quota.",
            ["key", "result"],
            registry=registry,
        )
        self.connections_refused = Counter(
            CONNECTIONS_REFUSED,
            "Connections closed or refused before a complete request, by reason.",
            ["reason"],
            registry=registry,
        )

    def _add_batches(self, registry: CollectorRegistry) -> None:
        self.batch_items = Histogram(
            "clear_batch_items",
            "Texts in a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.waiting_tokens = Gauge(
            "clear_waiting_tokens", "Tokens waiting for a batch.", registry=registry
        )
        self.max_waiting_tokens = Gauge(
            "clear_max_waiting_tokens",
            "Limit of the tokens waiting for a batch.",
            registry=registry,
        )
        self.batch_tokens = Counter(
            "clear_batch_tokens_total",
            "Tokens of batches, by lane and kind: text or padding.",
            ["lane", "kind"],
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "clear_batch_duration_seconds",
            "Time of a batch on the device, by lane.",
            ["lane"],
            buckets=SECONDS,
            registry=registry,
        )
        self.invalid_embeddings = Counter(
            "clear_invalid_embeddings_total",
            "Texts for which the encoder gave NaN, infinity or zero; their requests failed.",
            registry=registry,
        )
        self.batch_token_budget = Gauge(
            "clear_batch_token_budget",
            "Padded tokens that a batch may have; halved when memory runs out.",
            registry=registry,
        )
        self.cache = CacheCounters()
        registry.register(self.cache)

    def _add_state(self, registry: CollectorRegistry) -> None:
        self.device_memory_used = Gauge(
            "clear_device_memory_used_bytes",
            "Memory in use: on a GPU by all processes, on a CPU by this process.",
            ["device"],
            registry=registry,
        )
        self.device_memory_total = Gauge(
            "clear_device_memory_total_bytes",
            "Memory in total: of the GPU, or of the container or machine.",
            ["device"],
            registry=registry,
        )
        self.ready = Gauge("clear_ready", "1 if the service accepts requests.", registry=registry)
        self.build_info = Gauge(
            "clear_build_info",
            "Version of the service; the value is always 1.",
            ["version"],
            registry=registry,
        )
        self.encoder_info = Gauge(
            "clear_encoder_info",
            "The encoder; the value is always 1.",
            ["name", "fingerprint", "passage_fingerprint", "dimension", "device", "runtime"],
            registry=registry,
        )
        self.index_info = Gauge(
            "clear_index_info",
            "The live index generation; the value is always 1.",
            ["generation", "backend", "factory"],
            registry=registry,
        )
        self.index_passages = Gauge(
            "clear_index_passages", "Passages in the live generation.", registry=registry
        )
        self.index_created = Gauge(
            "clear_index_created_timestamp_seconds",
            "Unix time at which the live generation was built.",
            registry=registry,
        )

    def _add_reloads(self, registry: CollectorRegistry) -> None:
        self.reloads = Counter(
            "clear_reloads_total",
            "Reloads of the index, by result: swapped, unchanged or refused.",
            ["result"],
            registry=registry,
        )
        self.reload_seconds = Histogram(
            "clear_reload_duration_seconds",
            "Time to verify, open, warm up and swap in a generation.",
            buckets=SECONDS,
            registry=registry,
        )
        self.reload_refused = Gauge(
            "clear_reload_refused",
            "1 if the generation that CURRENT names was refused; the one before stays live.",
            registry=registry,
        )

    def _add_changes(self, registry: CollectorRegistry) -> None:
        self.changed_documents = Counter(
            "clear_changed_documents_total",
            "Documents put or deleted over HTTP, by result: accepted, applied or refused.",
            ["result"],
            registry=registry,
        )
        self.change_seconds = Histogram(
            "clear_change_live_seconds",
            "Time from the acknowledgement of a change to the generation that has it.",
            buckets=SECONDS,
            registry=registry,
        )
        self.waiting_documents = Gauge(
            "clear_waiting_documents",
            "Documents of changes that wait to be applied by this instance.",
            registry=registry,
        )
        self.oldest_change_seconds = Gauge(
            "clear_oldest_waiting_change_seconds",
            "Age of the oldest change that waits; 0 if none waits.",
            registry=registry,
        )
        self.is_writer = Gauge(
            "clear_index_writer",
            "1 if this instance writes the changes of documents, else 0.",
            registry=registry,
        )
