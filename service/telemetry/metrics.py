"""Prometheus metrics as the service sets them, and what a reader of them is shown."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal, NamedTuple, Protocol

from prometheus_client.exposition import choose_encoder

from service.retrieval.encoder.batches import TokenizedText
from service.retrieval.hardware import read_memory
from service.retrieval.searcher import Searcher
from service.telemetry.instruments import Instruments, LookupCounts

Stage = Literal["tokenize", "filter", "queue", "encode", "search", "passages"]
STAGES: tuple[Stage, ...] = ("tokenize", "filter", "queue", "encode", "search", "passages")


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


class Metrics(Instruments):
    """What the service counts and times, each service in a registry of its own."""

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

    def count_queries(self, languages: Sequence[str], source: str) -> None:
        """Count queries by language, `declared` or `detected`."""
        for language in languages:
            self.queries.labels(language, source).inc()

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

    def watch(self, batcher: Watched, cache: LookupCounts) -> None:
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
        self.index_info.labels(generation.name, manifest.backend, manifest.factory).set(1)
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
