"""The query cache: tokens and embeddings of recent queries, and those being encoded now."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from torch import Tensor

from service.auth.quotas import hold_tokens
from service.batching.batcher import Batcher
from service.batching.request import Answer, Spent
from service.engine.work import BatchItem, BatchResult, PreparedBatch
from service.errors import DeadlineExceededError
from service.retrieval.encoder.batches import TokenizedText
from service.retrieval.encoder.encoder import Encoder

REMEMBERED_TEXTS = 1024
# Encoder, role and token ids: texts with equal token ids have equal embeddings.
Key = tuple[str, str, bytes]
# The embedding of a query that is being encoded; None if that failed.
Flight = asyncio.Future[Tensor | None]


class QueryCache:
    """LRU cache of embeddings, with single-flight: equal queries share one forward pass.

    Lives in the event loop; not thread-safe.
    """

    def __init__(self, max_entries: int) -> None:
        """Keep up to `max_entries` embeddings; 0 disables the cache and single-flight."""
        self._max_entries = max_entries
        self._embeddings: OrderedDict[Key, Tensor] = OrderedDict()
        self._in_flight: dict[Key, Flight] = {}
        self.num_lookups = 0
        self.num_hits = 0

    @property
    def is_on(self) -> bool:
        """Return whether the cache keeps anything."""
        return self._max_entries > 0

    @property
    def hit_ratio(self) -> float:
        """Return the share of queries that needed no forward pass of their own."""
        return self.num_hits / self.num_lookups if self.num_lookups else 0.0

    def find(self, key: Key) -> Tensor | None:
        """Return the embedding of a query; None if it is not cached."""
        if not self.is_on:
            return None
        self.num_lookups += 1
        embedding = self._embeddings.get(key)
        if embedding is not None:
            self._embeddings.move_to_end(key)
            self.num_hits += 1
        return embedding

    def join(self, key: Key) -> Flight | None:
        """Return the future of an equal query in flight; if None, the caller leads a new flight.

        The leader must call `complete`.
        """
        if not self.is_on:
            return None
        flight = self._in_flight.get(key)
        if flight is None:
            self._in_flight[key] = asyncio.get_running_loop().create_future()
            return None
        self.num_hits += 1
        return flight

    def complete(self, key: Key, embedding: Tensor | None) -> None:
        """Complete a flight with its embedding; with None if it failed."""
        flight = self._in_flight.pop(key, None)
        if flight is None:
            return
        if not flight.done():
            flight.set_result(embedding)
        if embedding is not None:
            self._embeddings[key] = embedding.clone()
            if len(self._embeddings) > self._max_entries:
                self._embeddings.popitem(last=False)


class QueryRunner:
    """Runs queries in the batcher; equal queries share one embedding."""

    def __init__(
        self,
        batcher: Batcher[BatchItem, PreparedBatch, BatchResult],
        cache: QueryCache,
        fingerprint: str,
    ) -> None:
        """Keep the parts; the fingerprint is the encoder's."""
        self._batcher = batcher
        self._cache = cache
        self._fingerprint = fingerprint
        self.tokens_of = lru_cache(REMEMBERED_TEXTS if cache.is_on else 0)(_tokens_of)

    async def run(
        self, items: Sequence[BatchItem], deadline: float, spent: Spent | None = None
    ) -> list[Answer[BatchResult]]:
        """Run the queries of a request; errors are those of `Batcher.submit`."""
        with hold_tokens(sum(item.num_tokens for item in items)):
            if not self._cache.is_on:
                return await self._batcher.submit(items, "query", deadline, spent)
            keys = [self._key(item) for item in items]
            items = [
                replace(item, embedding=self._cache.find(key))
                for item, key in zip(items, keys, strict=True)
            ]
            # as a whole: else the first queries of a request could refuse the others
            num_tokens = sum(item.num_tokens for item in items)
            self._batcher.admit(num_tokens, "query", deadline, spent)
            if all(item.embedding is not None for item in items):
                return await self._batcher.run(items, "query", deadline)
            return await self._run(items, keys, deadline)

    async def _run(
        self, items: Sequence[BatchItem], keys: Sequence[Key], deadline: float
    ) -> list[Answer[BatchResult]]:
        """Run queries that were admitted; wait for those that are in flight."""
        own: dict[int, BatchItem] = {}
        followers: dict[int, asyncio.Task[Answer[BatchResult]]] = {}
        for row, (item, key) in enumerate(zip(items, keys, strict=True)):
            flight = self._cache.join(key) if item.embedding is None else None
            if flight is None:
                own[row] = item
            else:
                followers[row] = asyncio.create_task(self._follow(item, flight, deadline))
        try:
            led = await self._lead(list(own.values()), deadline)
            answers = dict(zip(own, led, strict=True))
            for row, follower in followers.items():
                answers[row] = await follower
        finally:
            for follower in followers.values():
                follower.cancel()
            await asyncio.gather(*followers.values(), return_exceptions=True)
        return [answers[row] for row in range(len(items))]

    async def _lead(self, items: Sequence[BatchItem], deadline: float) -> list[Answer[BatchResult]]:
        """Run queries together, and complete the flights of those that were not cached."""
        embeddings: dict[Key, Tensor] = {}
        keys = [self._key(item) for item in items if item.embedding is None]
        try:
            answers = await self._batcher.run(items, "query", deadline) if items else []
            for item, answer in zip(items, answers, strict=True):
                embeddings[self._key(item)] = answer.result.embedding
            return answers
        finally:
            for key in keys:
                self._cache.complete(key, embeddings.get(key))

    async def _follow(
        self, item: BatchItem, flight: Flight | None, deadline: float
    ) -> Answer[BatchResult]:
        """Search with the embedding of an equal query; if that one fails, lead a new flight."""
        while flight is not None:
            done, _ = await asyncio.wait({flight}, timeout=deadline - time.monotonic())
            if not done:
                raise DeadlineExceededError(
                    "no answer before the deadline: set a longer timeout_ms"
                )
            embedding = flight.result()
            if embedding is not None:
                known = replace(item, embedding=embedding)
                return (await self._batcher.run([known], "query", deadline))[0]
            flight = self._cache.join(self._key(item))
        return (await self._lead([item], deadline))[0]

    def _key(self, item: BatchItem) -> Key:
        token_ids = np.asarray(item.text.token_ids, np.int32).tobytes()
        return (self._fingerprint, item.text.side, token_ids)


def _tokens_of(encoder: Encoder, query: str) -> TokenizedText:
    [tokens] = encoder.tokenize([query], "query")
    return tokens
