"""Answers requests: tokenize, queue, encode, search, look up passages; each stage is timed."""

import asyncio
import time
from collections.abc import Sequence

import torch

from service.auth.quotas import hold_tokens
from service.batching.batcher import Batcher
from service.batching.program import Limits
from service.batching.request import Answer, Spent
from service.engine.language import LanguageDetector
from service.engine.outcome import (
    EncodeOutcome,
    SearchOutcome,
    batch_seconds,
    best_scores,
    rankings_of,
)
from service.engine.page import Page, deepen
from service.engine.query_cache import QueryCache, QueryRunner
from service.engine.threads import WorkThreads
from service.engine.work import PROBE_TEXT, BatchItem, BatchResult, PreparedBatch, SearchProgram
from service.errors import DeadlineExceededError, InvalidEmbeddingError, RequestError
from service.retrieval.corpus.filters import Filter
from service.retrieval.encoder.batches import Role, TokenizedText
from service.retrieval.hits import Hit
from service.retrieval.index.backend import Ranking
from service.retrieval.relevance.model import DEPTH
from service.retrieval.searcher import CANARY_TOP_K, Searcher
from service.telemetry.metrics import Metrics, Stage

# Below these sizes, handing work to another thread takes longer than the work.
INLINE_CHARACTERS = 2000
INLINE_HITS = 100
PROBE_SECONDS = 5.0
CANARY_SECONDS = 60.0
# A bulk request's default deadline, in times of its tokens alone: searches may take three quarters.
BULK_PATIENCE = 5.0


class Engine:
    """Answers requests from the live searcher; every forward pass and search runs in the batcher.

    `replace` makes another searcher live. A request keeps the searcher that was live when it came,
    so that no answer mixes two generations. The old searcher is freed with its last request.
    """

    def __init__(
        self,
        searcher: Searcher,
        metrics: Metrics,
        limits: Limits,
        query_cache_entries: int,
        languages: LanguageDetector | None = None,
    ) -> None:
        """Start the batcher, and set the metrics that describe encoder and index."""
        self.searcher = searcher
        self._metrics = metrics
        self._limits = limits
        self._languages = languages or LanguageDetector()
        self.threads = WorkThreads()
        self._program = SearchProgram(searcher.encoder, metrics)
        self.batcher = Batcher[BatchItem, PreparedBatch, BatchResult](self._program, limits)
        cache = QueryCache(query_cache_entries)
        self._queries = QueryRunner(self.batcher, cache, searcher.encoder.fingerprint)
        metrics.watch(self.batcher, cache)
        metrics.report(searcher)

    async def search(
        self,
        queries: Sequence[str],
        page: Page,
        *,
        language: str | None,
        deadline: float,
        filter: Filter | None = None,
        facets: Sequence[str] = (),
        spent: Spent | None = None,
    ) -> SearchOutcome:
        """Find each query's best passages, or those that are like the page's `without`.

        Raises:
            FilterError: the index does not declare a field, or has no passage `without`.
            EncoderMismatchError: the encoder has no passage side, and `without` is given.
            RequestError: as for `Batcher.submit`.
        """
        began = started = time.monotonic()
        spent = spent or Spent()
        searcher = self.searcher
        page, queries, role = page.resolve(queries, searcher)
        await self.threads.load(searcher.encoder.side(role).runtime, deadline)
        page.check(searcher)
        counted = await self.threads.select(searcher, filter, facets, spent)
        selected = time.monotonic()
        tokenized = await self._tokenize(queries, role, spent)
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - selected}
        if filter or facets:
            seconds["filter"] = selected - started
        items = BatchItem.all_of(tokenized, searcher, page.depth, filter)
        running = asyncio.ensure_future(self._queries.run(items, deadline, spent))
        await asyncio.sleep(0)  # the queries are queued now; the rest overlaps the device's work
        try:
            languages, labels = self._languages.languages_of(queries, language)
            self._metrics.count_queries(labels, "declared" if language else "detected")
            matches = page.matches(searcher, queries, filter)
        finally:
            answers = await running
        seconds |= batch_seconds(answers)
        seconds["search"] = max(answer.result.search_seconds for answer in answers)
        started = time.monotonic()
        hits = await self._look_up(searcher, rankings := rankings_of(answers, matches), page)
        if page.may_fold:
            hits = await deepen(
                *(items, answers, matches, hits, page),
                lambda again: self.batcher.run(again, "query", deadline),
                lambda found: self._look_up(searcher, found, page),
            )
        shown = page.with_evidence(searcher, answers, [page.cut(left) for left in hits])
        seconds["passages"] = time.monotonic() - started
        if time.monotonic() > deadline:
            raise DeadlineExceededError("the deadline passed while passages were looked up")
        self._metrics.observe_request("/search", tokenized, seconds)
        best = best_scores(answers)
        self._metrics.observe_queries(labels, tokenized, best, time.monotonic() - began)
        answered = page.answered(searcher, rankings, hits)
        self._metrics.count_answers(labels, answered)
        cut = [text.is_truncated for text in tokenized]
        return SearchOutcome(searcher.generation, shown, answered, cut, languages, seconds, counted)

    async def encode(
        self,
        texts: Sequence[str],
        role: Role,
        deadline: float,
        *,
        may_extend: bool = False,
        spent: Spent | None = None,
    ) -> EncodeOutcome:
        """Encode texts, in the bulk lane; errors are those of `Batcher.submit`.

        `may_extend` moves the deadline by a multiple of the time that the tokens take.
        """
        await self.threads.load(self.searcher.encoder.side(role).runtime, deadline)
        started = time.monotonic()
        spent = spent or Spent()
        tokenized = await self._tokenize(texts, role, spent)
        seconds: dict[Stage, float] = {"tokenize": time.monotonic() - started}
        items = BatchItem.all_of(tokenized)
        num_tokens = sum(item.num_tokens for item in items)
        if may_extend:
            deadline += BULK_PATIENCE * self.batcher.seconds_alone("bulk", num_tokens)
        with hold_tokens(num_tokens):
            answers = await self.batcher.submit(items, "bulk", deadline, spent)
        seconds |= batch_seconds(answers)
        self._metrics.observe_request("/encode", tokenized, seconds)
        return EncodeOutcome(
            torch.stack([answer.result.embedding for answer in answers]).cpu().numpy(),
            num_tokens,
            sum(text.is_truncated for text in tokenized),
            seconds,
        )

    async def is_healthy(self) -> bool:
        """Return whether the last batch succeeded; if it failed, whether a small probe does."""
        if self.batcher.is_broken or not self.batcher.last_batch_failed:
            return not self.batcher.is_broken
        [probe] = self.searcher.encoder.tokenize([PROBE_TEXT], "query")
        item = BatchItem(probe, self.searcher, 1)
        try:
            # without admission: that others wait is no sign of a fault
            await self.batcher.run([item], "query", time.monotonic() + PROBE_SECONDS)
        except RequestError:
            return False
        return True

    def warm_up(self) -> None:
        """Run the smallest and the largest batch, and check the index's canary queries."""
        for num_tokens, seconds in self._program.warm_up(self.searcher, self._limits):
            self.batcher.cost.learn_alone(num_tokens, seconds)
        self.searcher.check_canaries()
        self.searcher.prepare_relevance()

    async def try_out(self, searcher: Searcher) -> None:
        """Check another generation by its canary queries, between batches of live requests.

        Raises:
            GenerationError: the answers differ from those of its build.
            RequestError: the queries could not be run.
        """
        try:
            queries = searcher.canary_queries
            answers = await self._find(searcher, queries, CANARY_TOP_K) if queries else []
        except InvalidEmbeddingError as error:
            raise searcher.invalid_canary(error.position) from None
        hits = await self._look_up(searcher, rankings_of(answers), Page(CANARY_TOP_K))
        searcher.compare_canaries(hits)
        if queries := searcher.background_queries:
            searcher.use_background(rankings_of(await self._find(searcher, queries, DEPTH)))

    async def _find(
        self, searcher: Searcher, queries: Sequence[str], top_k: int
    ) -> Sequence[Answer[BatchResult]]:
        tokenized = await self._tokenize(queries, "query", Spent())
        items = BatchItem.all_of(tokenized, searcher, top_k)
        return await self.batcher.submit(items, "bulk", time.monotonic() + CANARY_SECONDS)

    @property
    def bulk_batch_tokens(self) -> int:
        """Return the most tokens of a batch of the bulk lane."""
        return self._limits.max_bulk_batch_tokens

    def replace(self, searcher: Searcher) -> None:
        """Make another generation live for every request that comes from now on."""
        self.searcher = searcher
        self._metrics.report(searcher)

    def close(self) -> None:
        """Run the texts that wait, then stop all threads."""
        self.batcher.close()
        self.threads.close()

    async def _tokenize(
        self, texts: Sequence[str], role: Role, spent: Spent
    ) -> list[TokenizedText]:
        encoder, is_short = self.searcher.encoder, sum(map(len, texts)) <= INLINE_CHARACTERS

        def tokenize() -> list[TokenizedText]:
            with spent.own_work():
                if is_short and role == "query":
                    return [self._queries.tokens_of(encoder, text) for text in texts]
                return encoder.tokenize(texts, role)

        return tokenize() if is_short else await self.threads.run(tokenize, spent)

    async def _look_up(
        self, searcher: Searcher, rankings: Sequence[Ranking], page: Page
    ) -> list[list[Hit]]:
        """Return what is left of the hits of each ranking."""

        def look_up() -> list[list[Hit]]:
            return [
                page.left(searcher.hits(ranking, page.min_score, page.most_hits))
                for ranking in rankings
            ]

        if sum(len(ranking.rows) for ranking in rankings) <= INLINE_HITS:
            return look_up()
        return await self.threads.run(look_up)
