"""A request's way: tokenize, queue, encode, search, look up passages; each stage is timed."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import torch

from service.batch_request import Answer
from service.batch_work import Prepared, Result, Work, prepare, run
from service.batching import Batcher, Limits, Program
from service.errors import DeadlineExceededError, RequestError
from service.faults import classify
from service.lanes import Lane
from service.language import LanguageDetector
from service.metrics import Metrics, Stage
from service.query_cache import Key, QueryCache
from service.retrieval.encoder import Embeddings, Role, TokenizedText
from service.retrieval.searcher import Hit, Searcher

# Below, a hop to another thread costs more than the work.
INLINE_CHARACTERS = 2000
INLINE_HITS = 100
NUM_THREADS = 2
PROBE_TEXT = "probe"
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one search request."""

    hits: list[list[Hit]]
    languages: list[str]
    stage_seconds: dict[Stage, float]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one encode request."""

    embeddings: Embeddings
    num_tokens: int
    num_truncated: int
    stage_seconds: dict[Stage, float]


class Engine:
    """Answers requests from one searcher; every forward pass and search runs in the batcher."""

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
        program = Program[Work, Prepared, Result](
            partial(prepare, searcher),
            partial(run, searcher),
            classify,
            metrics.observe_batch,
            searcher.encoder.num_slots,
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
    ) -> Found:
        """Find each query's best passages; errors are those of `Batcher.submit`."""
        started = time.monotonic()
        tokenized = await self._tokenize(queries, "query")
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - started}
        running = asyncio.ensure_future(self._run_queries(tokenized, top_k, deadline))
        await asyncio.sleep(0)  # it is in the queue now; the rest of the work overlaps the device's
        try:
            languages = self._count_languages(queries, language)
        finally:
            answers = await running
        seconds |= _batch_seconds(answers)
        seconds["search"] = max(answer.result.search_seconds for answer in answers)
        started = time.monotonic()
        hits = await self._look_up(answers, top_k, min_score)
        seconds["passages"] = time.monotonic() - started
        if time.monotonic() > deadline:
            raise DeadlineExceededError("the deadline passed while passages were looked up")
        self._metrics.observe_request("/search", tokenized, seconds)
        return Found(hits, languages, seconds)

    async def encode(self, texts: Sequence[str], role: Role, deadline: float) -> Embedded:
        """Embed texts, in the lane for bulk; errors are those of `Batcher.submit`."""
        started = time.monotonic()
        tokenized = await self._tokenize(texts, role)
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - started}
        answers = await self._submit([Work(text) for text in tokenized], "bulk", deadline)
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
            await self._submit([Work(probe[0], 1)], "query", time.monotonic() + PROBE_SECONDS)
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
            batch = prepare(self.searcher, [Work(text, 10) for text in texts])
            run(self.searcher, batch)
            started = time.monotonic()
            run(self.searcher, batch)
            num_tokens = len(texts) * len(texts[0].token_ids)
            self.batcher.cost.learn(num_tokens, time.monotonic() - started)
        self.searcher.check_canaries()

    def close(self) -> None:
        """Finish what waits and stop all threads."""
        self.batcher.close()
        self._threads.shutdown()

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

    async def _run_queries(
        self, tokenized: Sequence[TokenizedText], top_k: int, deadline: float
    ) -> list[Answer[Result]]:
        if not self._cache.is_on:
            return await self._submit([Work(text, top_k) for text in tokenized], "query", deadline)
        return await asyncio.gather(*(self._run_query(text, top_k, deadline) for text in tokenized))

    async def _run_query(self, text: TokenizedText, top_k: int, deadline: float) -> Answer[Result]:
        """Run one query: search only if it is known, share the embedding of an equal one."""
        key: Key = (
            self.searcher.encoder.fingerprint,
            "query",
            np.asarray(text.token_ids, np.int32).tobytes(),
        )
        embedding = self._cache.find(key)
        if embedding is None and (flight := self._cache.board(key)) is not None:
            await asyncio.wait({flight}, timeout=deadline - time.monotonic())
            embedding = flight.result() if flight.done() else None
        landed = None
        try:
            [answer] = await self._submit([Work(text, top_k, embedding)], "query", deadline)
            landed = answer.result.embedding
            return answer
        finally:
            self._cache.land(key, landed)

    async def _look_up(
        self, answers: Sequence[Answer[Result]], top_k: int, min_score: float
    ) -> list[list[Hit]]:
        def look_up() -> list[list[Hit]]:
            rankings = (answer.result.ranking for answer in answers)
            return [self.searcher.hits(ranking, min_score) for ranking in rankings if ranking]

        if len(answers) * top_k <= INLINE_HITS:
            return look_up()
        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    def _count_languages(self, queries: Sequence[str], declared: str | None) -> list[str]:
        languages = [declared or self._languages.detect(query) for query in queries]
        source = "declared" if declared else "detected"
        for language in languages:
            label = self._languages.label(language.partition("-")[0].lower())
            self._metrics.queries.labels(label, source).inc()
        return languages


def _batch_seconds(answers: Sequence[Answer[Result]]) -> dict[Stage, float]:
    return {
        "queue": max(answer.queue_seconds for answer in answers),
        "encode": max(answer.result.encode_seconds for answer in answers),
    }
