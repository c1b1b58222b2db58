"""A request's way: tokenize, queue, encode, search, look up passages; each stage is timed."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np
import torch

from service.auth.quotas import hold_tokens
from service.batching.batcher import Batcher
from service.batching.faults import classify
from service.batching.program import Limits, Program
from service.batching.queue import Lane
from service.batching.request import Answer
from service.engine.language import LanguageDetector
from service.engine.query_cache import Key, QueryCache
from service.engine.work import Prepared, Result, Work, prepare, run
from service.errors import DeadlineExceededError, RequestError
from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.selection import Facet
from service.retrieval.encoder.encoder import Embeddings, Role, TokenizedText
from service.retrieval.generation.generation import Generation
from service.retrieval.searcher import CANARY_TOP_K, Hit, Searcher
from service.telemetry.metrics import Metrics, Stage

# Below, a hop to another thread costs more than the work.
INLINE_CHARACTERS = 2000
INLINE_HITS = 100
NUM_THREADS = 2
PROBE_TEXT = "probe"
PROBE_SECONDS = 5.0
CANARY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one search request, all of it from one generation."""

    generation: Generation
    hits: list[list[Hit]]
    languages: list[str]
    stage_seconds: dict[Stage, float]
    facets: dict[str, Facet]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one encode request."""

    embeddings: Embeddings
    num_tokens: int
    num_truncated: int
    stage_seconds: dict[Stage, float]


class Engine:
    """Answers requests from the live searcher; every forward pass and search runs in the batcher.

    `replace` makes another one live. A request keeps the searcher that it came to, so that no
    answer is of two generations; the old one goes with its last request.
    """

    def __init__(
        self, searcher: Searcher, metrics: Metrics, limits: Limits, query_cache_entries: int
    ) -> None:
        """Start the batcher and report what was loaded."""
        self.searcher = searcher
        self._metrics = metrics
        self._limits = limits
        self._languages = LanguageDetector()
        self._cache = QueryCache(query_cache_entries)
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="tokenizer")
        encoder = searcher.encoder
        program = Program[Work, Prepared, Result](
            partial(prepare, encoder),
            partial(run, encoder),
            classify,
            metrics.observe_batch,
            encoder.num_slots,
            kind=attrgetter("side"),
        )
        self.batcher = Batcher[Work, Prepared, Result](program, limits)
        metrics.watch(self.batcher, self._cache)
        metrics.report(searcher)

    async def search(
        self,
        queries: Sequence[str],
        *,
        top_k: int,
        min_score: float,
        language: str | None,
        deadline: float,
        filter: Filter | None = None,
        facets: Sequence[str] = (),
    ) -> Found:
        """Find each query's best passages; errors are FilterError and those of `Batcher.submit`."""
        began = started = time.monotonic()
        searcher = self.searcher
        counted = await self._select(searcher, filter, facets)
        selected = time.monotonic()
        tokenized = await self._tokenize(queries, "query")
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - selected}
        if filter or facets:
            seconds["filter"] = selected - started
        works = [Work(text, searcher, top_k, filter=filter) for text in tokenized]
        running = asyncio.ensure_future(self._run_queries(works, deadline))
        await asyncio.sleep(0)  # it is in the queue now; the rest of the work overlaps the device's
        try:
            languages, labels = self._count_languages(queries, language)
        finally:
            answers = await running
        seconds |= _batch_seconds(answers)
        seconds["search"] = max(answer.result.search_seconds for answer in answers)
        started = time.monotonic()
        hits = await self._look_up(searcher, answers, top_k, min_score)
        seconds["passages"] = time.monotonic() - started
        if time.monotonic() > deadline:
            raise DeadlineExceededError("the deadline passed while passages were looked up")
        self._metrics.observe_request("/search", tokenized, seconds)
        self._metrics.observe_queries(
            labels, tokenized, _best_scores(answers), time.monotonic() - began
        )
        return Found(searcher.generation, hits, languages, seconds, counted)

    async def encode(self, texts: Sequence[str], role: Role, deadline: float) -> Embedded:
        """Embed texts, in the lane for bulk; errors are those of `Batcher.submit`."""
        started = time.monotonic()
        tokenized = await self._tokenize(texts, role)
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - started}
        works = [Work(text) for text in tokenized]
        with hold_tokens(sum(work.num_tokens for work in works)):
            answers = await self._submit(works, "bulk", deadline)
        seconds |= _batch_seconds(answers)
        self._metrics.observe_request("/encode", tokenized, seconds)
        return Embedded(
            torch.stack([answer.result.embedding for answer in answers]).cpu().numpy(),
            sum(len(text.token_ids) for text in tokenized),
            sum(text.is_truncated for text in tokenized),
            seconds,
        )

    async def is_healthy(self) -> bool:
        """Tell how the last real batch went; after a bad one, ask for a small one."""
        if self.batcher.is_broken:
            return False
        if not self.batcher.last_batch_failed:
            return True
        probe = self.searcher.encoder.tokenize([PROBE_TEXT], "query")
        try:
            await self._submit(
                [Work(probe[0], self.searcher, 1)], "query", time.monotonic() + PROBE_SECONDS
            )
        except RequestError:
            return False
        return True

    def warm_up(self) -> None:
        """Run the smallest and the largest batch, and ask the index its canary queries."""
        encoder = self.searcher.encoder
        encoder.warm_up(self._limits.max_batch_tokens)
        bulk: Role = "passage" if encoder.encodes_passages else "query"
        longest = encoder.tokenize(["warm up " * encoder.max_tokens], bulk)
        count = max(1, self._limits.max_batch_tokens // len(longest[0].token_ids))
        short = encoder.tokenize([PROBE_TEXT], "query")
        for texts in (longest * count, short, short * 8, longest):
            batch = prepare(encoder, [Work(text, self.searcher, 10) for text in texts])
            run(encoder, batch)
            started = time.monotonic()
            run(encoder, batch)
            num_tokens = len(texts) * len(texts[0].token_ids)
            self.batcher.cost.learn(num_tokens, time.monotonic() - started)
        self.searcher.check_canaries()

    async def try_out(self, searcher: Searcher) -> None:
        """Warm another generation up by its canary queries, between batches of live requests.

        Raises:
            GenerationError: it does not answer them as its build did.
            RequestError: they could not be run.
        """
        tokenized = await self._tokenize(searcher.canary_queries, "query")
        works = [Work(text, searcher, CANARY_TOP_K) for text in tokenized]
        answers = await self._submit(works, "bulk", time.monotonic() + CANARY_SECONDS)
        hits = await self._look_up(searcher, answers, CANARY_TOP_K, -1.0)
        searcher.compare_canaries(hits)

    def replace(self, searcher: Searcher) -> None:
        """Make another generation live for every request that comes from now on."""
        self.searcher = searcher
        self._metrics.report(searcher)

    def close(self) -> None:
        """Finish what waits and stop all threads."""
        self.batcher.close()
        self._threads.shutdown()

    async def _select(
        self, searcher: Searcher, filter: Filter | None, facets: Sequence[str]
    ) -> dict[str, Facet]:
        """Find what a filter lets through, before the device waits for it, and count facets."""
        if filter is None and not facets:
            return {}
        selections = searcher.selections

        def select() -> dict[str, Facet]:
            if filter:
                selections.select(filter).find()
            return {field: selections.facet(field, filter) for field in facets}

        return await asyncio.get_running_loop().run_in_executor(self._threads, select)

    async def _tokenize(self, texts: Sequence[str], role: Role) -> list[TokenizedText]:
        tokenize = self.searcher.encoder.tokenize
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return tokenize(texts, role)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, tokenize, texts, role)

    async def _submit(
        self, works: Sequence[Work], lane: Lane, deadline: float
    ) -> list[Answer[Result]]:
        return await self.batcher.submit(
            [(work, work.num_tokens) for work in works], lane, deadline
        )

    async def _run_queries(self, works: Sequence[Work], deadline: float) -> list[Answer[Result]]:
        with hold_tokens(sum(work.num_tokens for work in works)):
            if not self._cache.is_on:
                return await self._submit(works, "query", deadline)
            return await asyncio.gather(*(self._run_query(work, deadline) for work in works))

    async def _run_query(self, work: Work, deadline: float) -> Answer[Result]:
        """Run one query: search only if it is known, share the embedding of an equal one."""
        key: Key = (
            self.searcher.encoder.fingerprint,
            "query",
            np.asarray(work.text.token_ids, np.int32).tobytes(),
        )
        embedding = self._cache.find(key)
        if embedding is None and (flight := self._cache.board(key)) is not None:
            await asyncio.wait({flight}, timeout=deadline - time.monotonic())
            embedding = flight.result() if flight.done() else None
        landed = None
        try:
            known = replace(work, embedding=embedding)
            [answer] = await self._submit([known], "query", deadline)
            landed = answer.result.embedding
            return answer
        finally:
            self._cache.land(key, landed)

    async def _look_up(
        self,
        searcher: Searcher,
        answers: Sequence[Answer[Result]],
        top_k: int,
        min_score: float,
    ) -> list[list[Hit]]:
        def look_up() -> list[list[Hit]]:
            rankings = (answer.result.ranking for answer in answers)
            return [searcher.hits(ranking, min_score) for ranking in rankings if ranking]

        if len(answers) * top_k <= INLINE_HITS:
            return look_up()
        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    def _count_languages(
        self, queries: Sequence[str], declared: str | None
    ) -> tuple[list[str], list[str]]:
        """Tell each query's language, as it is answered and as it labels metrics."""
        languages = [declared or self._languages.detect(query) for query in queries]
        source = "declared" if declared else "detected"
        labels = [
            self._languages.label(language.partition("-")[0].lower()) for language in languages
        ]
        for label in labels:
            self._metrics.queries.labels(label, source).inc()
        return languages, labels


def _best_scores(answers: Sequence[Answer[Result]]) -> list[float | None]:
    rankings = (answer.result.ranking for answer in answers)
    return [
        float(ranking.scores[0]) if ranking and len(ranking.rows) else None for ranking in rankings
    ]


def _batch_seconds(answers: Sequence[Answer[Result]]) -> dict[Stage, float]:
    return {
        "queue": max(answer.queue_seconds for answer in answers),
        "encode": max(answer.result.encode_seconds for answer in answers),
    }
