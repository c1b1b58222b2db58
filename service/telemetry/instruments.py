"""All that the service counts and times: names, what they mean, labels and buckets."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

# From a cache hit to the default deadline, about five a decade.
SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 60,
)  # fmt: skip
# Coarser, for these come once a language.
LANGUAGE_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
# Cosines; the bundled encoder's best hits lie between .75 and .95, those of others elsewhere.
SCORES = (
    0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.725, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9,
    0.925, 0.95, 1,
)  # fmt: skip


class LookupCounts(Protocol):
    """The counts of a cache that metrics read."""

    @property
    def num_lookups(self) -> int:
        """Return the number of lookups."""

    @property
    def num_hits(self) -> int:
        """Return the number of lookups that found something."""


class CacheCounters(Collector):
    """Reads the query cache's own counts whenever they are asked for."""

    _labelnames = ()

    def __init__(self) -> None:
        """Count nothing until there is a cache."""
        self.source: LookupCounts | None = None

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read them."""
        lookups, hits = (self.source.num_lookups, self.source.num_hits) if self.source else (0, 0)
        yield CounterMetricFamily(
            "clear_query_cache_lookups", "Queries whose embedding was looked for.", lookups
        )
        yield CounterMetricFamily(
            "clear_query_cache_hits", "Queries whose embedding was known or being made.", hits
        )

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Name them."""
        return self.collect()


class Instruments:
    """One attribute a metric, in a registry of its own."""

    def __init__(self) -> None:
        """Register all metrics, so that each is there before the first request."""
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        for add in (
            self._add_requests,
            self._add_queries,
            self._add_batches,
            self._add_served,
            self._add_reloads,
        ):
            add(registry)

    def _add_requests(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "clear_request_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            ["route", "method", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "clear_stage_duration_seconds",
            "Time of a request by stage.",
            ["route", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "clear_requests_in_flight", "Requests being answered.", registry=registry
        )
        self.refusals = Counter(
            "clear_refusals_total",
            "Requests refused or given up, by reason.",
            ["reason"],
            registry=registry,
        )
        self.key_requests = Counter(
            "clear_key_requests_total",
            "Requests by key: passed on, or refused by its limits (rate, quota).",
            ["key", "result"],
            registry=registry,
        )
        self.connections_refused = Counter(
            "clear_connections_refused_total",
            "Connections that were cut or refused before there was a request, by reason.",
            ["reason"],
            registry=registry,
        )

    def _add_queries(self, registry: CollectorRegistry) -> None:
        self.queries = Counter(
            "clear_queries_total",
            "Queries searched, by language (declared or detected; bounded).",
            ["language", "source"],
            registry=registry,
        )
        self.query_seconds = Histogram(
            "clear_query_duration_seconds",
            "Time of the answered request that a query came in, by the query's language.",
            ["language"],
            buckets=LANGUAGE_SECONDS,
            registry=registry,
        )
        self.truncated_queries = Counter(
            "clear_truncated_queries_total",
            "Queries cut at the encoder's limit, by language.",
            ["language"],
            registry=registry,
        )
        self.top_score = Histogram(
            "clear_top_score",
            "Cosine of a query and its best passage, by language; a fall is drift.",
            ["language"],
            buckets=SCORES,
            registry=registry,
        )
        self.tokens = Counter(
            "clear_tokens_total", "Tokens encoded, by route.", ["route"], registry=registry
        )
        self.truncated = Counter(
            "clear_truncated_texts_total",
            "Texts cut at the encoder's limit, by route.",
            ["route"],
            registry=registry,
        )

    def _add_batches(self, registry: CollectorRegistry) -> None:
        self.batch_items = Histogram(
            "clear_batch_items",
            "Texts of a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.waiting_tokens = Gauge(
            "clear_waiting_tokens", "Tokens waiting for a batch.", registry=registry
        )
        self.max_waiting_tokens = Gauge(
            "clear_max_waiting_tokens", "Tokens that may wait; more are refused.", registry=registry
        )
        self.batch_tokens = Counter(
            "clear_batch_tokens_total",
            "Tokens that went through the encoder, padding apart.",
            ["lane", "kind"],
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "clear_batch_duration_seconds",
            "Time of a batch on the device.",
            ["lane"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_token_budget = Gauge(
            "clear_batch_token_budget",
            "Padded tokens of a batch at the most; halved when memory runs out.",
            registry=registry,
        )
        self.cache = CacheCounters()
        registry.register(self.cache)

    def _add_served(self, registry: CollectorRegistry) -> None:
        self.device_memory_used = Gauge(
            "clear_device_memory_used_bytes",
            "Memory taken: of a GPU by everything on it, of a CPU by this process.",
            ["device"],
            registry=registry,
        )
        self.device_memory_total = Gauge(
            "clear_device_memory_total_bytes",
            "Memory that there is: of a GPU, or of the container or machine.",
            ["device"],
            registry=registry,
        )
        self.ready = Gauge("clear_ready", "1 where the service takes requests.", registry=registry)
        self.build_info = Gauge(
            "clear_build_info", "The program; the value is 1.", ["version"], registry=registry
        )
        self.encoder_info = Gauge(
            "clear_encoder_info",
            "The encoder; the value is 1.",
            ["name", "fingerprint", "passage_fingerprint", "dimension", "device", "runtime"],
            registry=registry,
        )
        self.index_info = Gauge(
            "clear_index_info",
            "The live index generation; the value is 1.",
            ["generation", "backend", "factory"],
            registry=registry,
        )
        self.index_passages = Gauge(
            "clear_index_passages", "Passages of the live generation.", registry=registry
        )
        self.index_created = Gauge(
            "clear_index_created_timestamp_seconds",
            "When the live generation was built.",
            registry=registry,
        )

    def _add_reloads(self, registry: CollectorRegistry) -> None:
        self.reloads = Counter(
            "clear_reloads_total",
            "Attempts to serve the generation that CURRENT names, by result.",
            ["result"],
            registry=registry,
        )
        self.reload_seconds = Histogram(
            "clear_reload_duration_seconds",
            "Time to verify, open, warm up and swap a generation.",
            buckets=SECONDS,
            registry=registry,
        )
        self.reload_refused = Gauge(
            "clear_reload_refused",
            "1 where CURRENT names a generation that is refused; the one before serves on.",
            registry=registry,
        )
