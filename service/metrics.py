"""Prometheus metrics; each service has a registry of its own."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Literal, NamedTuple, Protocol

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
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.device_memory import read_memory
from service.query_cache import QueryCache
from service.retrieval.encoder import TokenizedText
from service.retrieval.searcher import Searcher

Stage = Literal["tokenize", "filter", "queue", "encode", "search", "passages"]
STAGES: tuple[Stage, ...] = ("tokenize", "filter", "queue", "encode", "search", "passages")
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


class Watched(Protocol):
    """What the metrics read off the batcher."""

    @property
    def waiting_tokens(self) -> int:
        """Tell how many tokens wait."""

    @property
    def batch_token_budget(self) -> int:
        """Tell how many padded tokens a batch may have."""


class CacheCounters(Collector):
    """Reads the query cache's own counts whenever they are asked for."""

    _labelnames = ()

    def __init__(self) -> None:
        """Count nothing until there is a cache."""
        self.source: QueryCache | None = None

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

    def observe_queries(
        self,
        languages: Sequence[str],
        texts: Sequence[TokenizedText],
        best_scores: Sequence[float | None],
        seconds: float,
    ) -> None:
        """Count the queries of one answered request by language, which must be of a bounded set."""
        for language, text, score in zip(languages, texts, best_scores, strict=True):
            self.query_seconds.labels(language).observe(seconds)
            self.truncated_queries.labels(language).inc(text.is_truncated)
            if score is not None:
                self.top_score.labels(language).observe(max(score, 0.0))

    def describe(self, max_waiting_tokens: int) -> None:
        """Tell what holds before anything is loaded."""
        self.build_info.labels(version("clear-search")).set(1)
        self.max_waiting_tokens.set(max_waiting_tokens)

    def watch(self, batcher: Watched, cache: QueryCache) -> None:
        """Read gauges off the batcher and the cache whenever they are asked for."""
        self.waiting_tokens.set_function(lambda: batcher.waiting_tokens)
        self.batch_token_budget.set_function(lambda: batcher.batch_token_budget)
        self.cache.source = cache

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
        name = str(encoder.device)
        for gauge, field in ((self.device_memory_used, 0), (self.device_memory_total, 1)):
            gauge.labels(name).set_function(
                lambda field=field: read_memory(encoder.device)[field]  # type: ignore[misc]
            )
        manifest = generation.manifest
        self.index_info.clear()  # of the generation before
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

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """Write all metrics, with exemplars where OpenMetrics is accepted, and the media type."""
        encoder, media_type = choose_encoder(accept)
        return encoder(self._registry), media_type
