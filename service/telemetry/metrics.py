"""Metrics as the service records, describes and exposes them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal, NamedTuple, Protocol

from prometheus_client.exposition import choose_encoder

from service.retrieval.encoder.batches import TokenizedText
from service.retrieval.hardware import read_memory
from service.retrieval.searcher import Searcher
from service.telemetry.cache_counters import LookupCounts
from service.telemetry.instruments import Instruments

Stage = Literal["tokenize", "filter", "queue", "encode", "search", "passages"]
STAGES: tuple[Stage, ...] = ("tokenize", "filter", "queue", "encode", "search", "passages")


class BatcherGauges(Protocol):
    """The figures of the batcher that metrics read."""

    @property
    def waiting_tokens(self) -> int:
        """Return the number of waiting tokens."""

    @property
    def batch_token_budget(self) -> int:
        """Return the number of padded tokens that a batch may have."""


class ChangeGauges(Protocol):
    """The figures of the changes that wait which metrics read."""

    num_waiting_documents: int

    @property
    def oldest_seconds(self) -> float:
        """Return for how long the oldest change has waited."""


class MetricDescription(NamedTuple):
    """Name, description and labels of one metric."""

    name: str
    description: str
    labels: tuple[str, ...]


class Metrics(Instruments):
    """Records what the service does; each instance has a registry of its own."""

    def observe_batch(
        self, lane: str, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float
    ) -> None:
        """Record one batch."""
        self.batch_items.observe(num_texts)
        self.batch_tokens.labels(lane, "text").inc(num_tokens)
        self.batch_tokens.labels(lane, "padding").inc(padded_tokens - num_tokens)
        self.batch_seconds.labels(lane).observe(seconds)

    def observe_request(
        self, route: str, texts: Sequence[TokenizedText], seconds: Mapping[Stage, float]
    ) -> None:
        """Record an answered request and its stages."""
        self.tokens.labels(route).inc(sum(len(text.token_ids) for text in texts))
        self.truncated.labels(route).inc(sum(text.is_truncated for text in texts))
        for stage, duration in seconds.items():
            self.stage_seconds.labels(route, stage).observe(duration)

    def count_queries(self, languages: Sequence[str], source: str) -> None:
        """Count queries by language, `declared` or `detected`."""
        for language in languages:
            self.queries.labels(language, source).inc()

    def count_answers(self, languages: Sequence[str], answered: Sequence[bool | None]) -> None:
        """Count queries by whether they are answered; None, without a relevance, is not counted."""
        for language, is_answered in zip(languages, answered, strict=True):
            if is_answered is not None:
                self.answers.labels(language, "yes" if is_answered else "no").inc()

    def observe_queries(
        self,
        languages: Sequence[str],
        texts: Sequence[TokenizedText],
        best_scores: Sequence[float | None],
        seconds: float,
    ) -> None:
        """Record the queries of an answered request; languages must be from a bounded set."""
        for language, text, score in zip(languages, texts, best_scores, strict=True):
            self.query_seconds.labels(language).observe(seconds)
            self.truncated_queries.labels(language).inc(text.is_truncated)
            if score is not None:
                self.top_score.labels(language).observe(max(score, 0.0))

    def describe(self, max_waiting_tokens: int) -> None:
        """Set the metrics that are known before anything is loaded."""
        self.build_info.labels(version("clear-search")).set(1)
        self.max_waiting_tokens.set(max_waiting_tokens)

    def watch(self, batcher: BatcherGauges, cache: LookupCounts) -> None:
        """Read gauges from the batcher and the cache at each scrape."""
        self.waiting_tokens.set_function(lambda: batcher.waiting_tokens)
        self.batch_token_budget.set_function(lambda: batcher.batch_token_budget)
        self.cache.source = cache

    def watch_changes(self, changes: ChangeGauges) -> None:
        """Read gauges from the changes that wait; this instance is their writer."""
        self.is_writer.set(1)
        self.waiting_documents.set_function(lambda: changes.num_waiting_documents)
        self.oldest_change_seconds.set_function(lambda: changes.oldest_seconds)

    def report(self, searcher: Searcher) -> None:
        """Set the metrics that describe the live encoder and index."""
        encoder, generation = searcher.encoder, searcher.generation
        self.encoder_info.labels(
            encoder.public_name,
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
        self.index_info.clear()  # the series of the previous generation
        self.index_info.labels(
            generation.name, generation.backend, generation.manifest.factory
        ).set(1)
        self.index_passages.set(len(generation.passages))
        self.index_created.set(generation.created.timestamp())

    def own(self) -> list[MetricDescription]:
        """Return the service's metrics, without those of the process and of Python."""
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
        """Return all metrics and their media type; OpenMetrics, if accepted, has exemplars."""
        encoder, media_type = choose_encoder(accept)
        return encoder(self._registry), media_type
