"""A request's way: tokenize, queue, encode, search, look up passages; each stage is timed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.batching import Answer, Batcher, Item
from service.language import LanguageDetector
from service.metrics import Metrics, Stage
from service.retrieval.encoder import Embeddings, Role, TokenizedText
from service.retrieval.index.backend import Ranking
from service.retrieval.searcher import Hit, Searcher

WARM_UP_TEXT = "warm up"


@dataclass(frozen=True, slots=True)
class Work:
    """One text for a batch; `top_k` 0 embeds it only."""

    text: TokenizedText
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a batch made of one text, and how long the whole batch took."""

    embedding: Embeddings
    ranking: Ranking | None
    encode_seconds: float
    search_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one search request."""

    hits: list[list[Hit]]
    languages: list[str]
    stage_seconds: dict[Stage, float]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one encode request."""

    embeddings: list[Embeddings]
    num_tokens: int
    num_truncated: int
    stage_seconds: dict[Stage, float]


@dataclass(frozen=True, slots=True)
class _Run:
    """A request's texts after the batcher."""

    tokenized: list[TokenizedText]
    answers: list[Answer[Result]]
    stage_seconds: dict[Stage, float]

    @property
    def num_tokens(self) -> int:
        return sum(len(text.token_ids) for text in self.tokenized)

    @property
    def num_truncated(self) -> int:
        return sum(text.is_truncated for text in self.tokenized)


class Engine:
    """Answers requests from one searcher; every forward pass and search runs in the batcher."""

    def __init__(
        self,
        searcher: Searcher,
        metrics: Metrics,
        *,
        max_batch_tokens: int,
        max_waiting_tokens: int,
    ) -> None:
        """Start the batcher and report what was loaded."""
        self.searcher = searcher
        self._metrics = metrics
        self._languages = LanguageDetector()
        self._max_batch_tokens = max_batch_tokens
        self._batcher: Batcher[Work, Result] = Batcher(
            self._run_batch,
            max_batch_tokens=max_batch_tokens,
            max_waiting_tokens=max_waiting_tokens,
        )
        metrics.waiting_tokens.set_function(lambda: self._batcher.waiting_tokens)
        self._report()

    async def search(
        self,
        queries: Sequence[str],
        *,
        top_k: int,
        min_score: float,
        language: str | None,
        timeout_seconds: float,
    ) -> Found:
        """Find each query's best passages; errors are those of `Batcher.submit`."""
        run = await self._run(queries, "query", top_k, timeout_seconds)
        seconds = run.stage_seconds
        seconds["search"] = max(answer.result.search_seconds for answer in run.answers)
        started = time.monotonic()
        hits = await asyncio.to_thread(self._look_up, run.answers, min_score)
        seconds["passages"] = time.monotonic() - started
        self._observe("/search", run)
        return Found(hits, self._count_languages(queries, language), seconds)

    async def encode(self, texts: Sequence[str], role: Role, timeout_seconds: float) -> Embedded:
        """Embed texts; errors are those of `Batcher.submit`."""
        run = await self._run(texts, role, 0, timeout_seconds)
        self._observe("/encode", run)
        return Embedded(
            [answer.result.embedding for answer in run.answers],
            run.num_tokens,
            run.num_truncated,
            run.stage_seconds,
        )

    def warm_up(self) -> None:
        """Run the smallest and the largest batch once, and ask the index its canary queries."""
        encoder = self.searcher.encoder
        short = encoder.tokenize([WARM_UP_TEXT], "query")
        longest = encoder.tokenize([WARM_UP_TEXT * encoder.max_tokens], "passage")
        encoder.encode_tokenized(short)
        encoder.encode_tokenized(longest * max(1, self._max_batch_tokens // encoder.max_tokens))
        self.searcher.check_canaries()

    def close(self) -> None:
        """Finish what waits and stop the batcher."""
        self._batcher.close()

    async def _run(
        self, texts: Sequence[str], role: Role, top_k: int, timeout_seconds: float
    ) -> _Run:
        started = time.monotonic()
        tokenized = await asyncio.to_thread(self.searcher.encoder.tokenize, texts, role)
        tokenize_seconds = time.monotonic() - started
        items = [Item(Work(text, top_k), len(text.token_ids)) for text in tokenized]
        answers = await self._batcher.submit(items, timeout_seconds - tokenize_seconds)
        return _Run(
            tokenized,
            answers,
            {
                "tokenize": tokenize_seconds,
                "queue": max(answer.queue_seconds for answer in answers),
                "encode": max(answer.result.encode_seconds for answer in answers),
            },
        )

    def _run_batch(self, batch: list[Work]) -> list[Result]:
        self._metrics.batch_items.observe(len(batch))
        started = time.monotonic()
        embeddings = self.searcher.encoder.encode_tokenized(
            [work.text for work in batch], self._max_batch_tokens
        )
        encoded = time.monotonic()
        searched = [row for row, work in enumerate(batch) if work.top_k]
        rankings: dict[int, Ranking] = {}
        if searched:
            top_k = max(batch[row].top_k for row in searched)
            found = self.searcher.rank(embeddings[searched], top_k)
            rankings = dict(zip(searched, found, strict=True))
        done = time.monotonic()
        return [
            Result(
                embeddings[row],
                rankings[row].first(work.top_k) if work.top_k else None,
                encoded - started,
                done - encoded,
            )
            for row, work in enumerate(batch)
        ]

    def _look_up(self, answers: list[Answer[Result]], min_score: float) -> list[list[Hit]]:
        rankings = [answer.result.ranking for answer in answers]
        return [self.searcher.hits(ranking, min_score) for ranking in rankings if ranking]

    def _count_languages(self, queries: Sequence[str], declared: str | None) -> list[str]:
        languages = [declared or self._languages.detect(query) for query in queries]
        source = "declared" if declared else "detected"
        for language in languages:
            label = self._languages.label(language.partition("-")[0].lower())
            self._metrics.queries.labels(label, source).inc()
        return languages

    def _observe(self, route: str, run: _Run) -> None:
        self._metrics.tokens.labels(route).inc(run.num_tokens)
        self._metrics.truncated.labels(route).inc(run.num_truncated)
        for stage, duration in run.stage_seconds.items():
            self._metrics.stage_seconds.labels(route, stage).observe(duration)

    def _report(self) -> None:
        encoder, generation = self.searcher.encoder, self.searcher.generation
        self._metrics.encoder_info.labels(
            encoder.name, encoder.fingerprint[:16], encoder.embedding_dim, encoder.device
        ).set(1)
        manifest = generation.manifest
        self._metrics.index_info.labels(
            generation.name, manifest["backend"], manifest["factory"]
        ).set(1)
        self._metrics.index_passages.set(len(generation.passages))
        self._metrics.index_created.set(generation.created.timestamp())
