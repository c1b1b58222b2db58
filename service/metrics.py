"""Prometheus metrics; each service has a registry of its own."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from service.query_cache import QueryCache
from service.retrieval.encoder import TokenizedText
from service.retrieval.searcher import Searcher

Stage = Literal["tokenize", "queue", "encode", "search", "passages"]
STAGES: tuple[Stage, ...] = ("tokenize", "queue", "encode", "search", "passages")
# From a cache hit to the default deadline, about five a decade.
SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 60,
)  # fmt: skip


class Watched(Protocol):
    """What the metrics read off the batcher."""

    @property
    def waiting_tokens(self) -> int:
        """Tell how many tokens wait."""

    @property
    def batch_token_budget(self) -> int:
        """Tell how many padded tokens a batch may have."""


class MetricDescription(NamedTuple):
    """What a reader of the metrics wants to know of one."""

    name: str
    description: str
    labels: tuple[str, ...]


class Metrics:
    """What the service counts and times."""

    def __init__(self) -> None:
        """Register all metrics, so that each is there before the first request."""
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
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
        self.queries = Counter(
            "clear_queries_total",
            "Queries searched, by language (declared or detected; bounded).",
            ["language", "source"],
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
        self.batch_items = Histogram(
            "clear_batch_items",
            "Texts of a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.waiting_tokens = Gauge(
            "clear_waiting_tokens", "Tokens waiting for a batch.", registry=registry
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
        self.cache_hit_ratio = Gauge(
            "clear_query_cache_hit_ratio",
            "Share of queries whose embedding was known or being made.",
            registry=registry,
        )
        self.ready = Gauge("clear_ready", "1 where the service takes requests.", registry=registry)
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

    def observe_batch(
        self, lane: str, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float
    ) -> None:
        """Count one batch."""
        self.batch_items.observe(num_texts)
        self.batch_tokens.labels(lane, "text").inc(num_tokens)
        self.batch_tokens.labels(lane, "padding").inc(padded_tokens - num_tokens)
        self.batch_seconds.labels(lane).observe(seconds)

    def observe_request(
        self, route: str, texts: Sequence[TokenizedText], seconds: Mapping[Stage, float]
    ) -> None:
        """Count one answered request and its stages."""
        self.tokens.labels(route).inc(sum(len(text.token_ids) for text in texts))
        self.truncated.labels(route).inc(sum(text.is_truncated for text in texts))
        for stage, duration in seconds.items():
            self.stage_seconds.labels(route, stage).observe(duration)

    def watch(self, batcher: Watched, cache: QueryCache) -> None:
        """Read gauges off the batcher and the cache whenever they are asked for."""
        self.waiting_tokens.set_function(lambda: batcher.waiting_tokens)
        self.batch_token_budget.set_function(lambda: batcher.batch_token_budget)
        self.cache_hit_ratio.set_function(lambda: cache.hit_ratio)

    def report(self, searcher: Searcher) -> None:
        """Tell which encoder and which index are served."""
        encoder, generation = searcher.encoder, searcher.generation
        self.encoder_info.labels(
            encoder.name,
            encoder.fingerprint[:16],
            encoder.passage_fingerprint[:16],
            encoder.embedding_dim,
            encoder.device,
            encoder.runtime.name,
        ).set(1)
        manifest = generation.manifest
        self.index_info.labels(generation.name, manifest["backend"], manifest["factory"]).set(1)
        self.index_passages.set(len(generation.passages))
        self.index_created.set(generation.created.timestamp())

    def own(self) -> list[MetricDescription]:
        """List the service's metrics, without those of the process and of Python."""
        collectors = (value for name, value in vars(self).items() if not name.startswith("_"))
        return [
            MetricDescription(
                metric.name + ("_total" if metric.type == "counter" else ""),
                metric.documentation,
                collector._labelnames,
            )
            for collector in collectors
            for metric in collector.describe()
        ]

    def expose(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
