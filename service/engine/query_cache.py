"""The query cache: embeddings of recent queries, and of queries that are being encoded now."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from service.auth.quotas import hold_tokens
from service.batching.batcher import Batcher
from service.batching.request import Answer
from service.engine.work import BatchItem, BatchResult, PreparedBatch

# Encoder, role and token ids: texts with equal token ids have equal embeddings.
Key = tuple[str, str, bytes]


class QueryCache:
    """LRU cache of embeddings, with single-flight: equal queries share one forward pass.

    Lives in the event loop; not thread-safe.
    """

    def __init__(self, max_entries: int) -> None:
        """Keep up to `max_entries` embeddings; 0 disables the cache and single-flight."""
        self._max_entries = max_entries
        self._embeddings: OrderedDict[Key, Tensor] = OrderedDict()
        self._in_flight: dict[Key, asyncio.Future[Tensor | None]] = {}
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

    def join(self, key: Key) -> asyncio.Future[Tensor | None] | None:
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

    async def run(self, items: Sequence[BatchItem], deadline: float) -> list[Answer[BatchResult]]:
        """Run the queries of a request; errors are those of `Batcher.submit`."""
        with hold_tokens(sum(item.num_tokens for item in items)):
            if not self._cache.is_on:
                return await self._batcher.submit(items, "query", deadline)
            return await asyncio.gather(*(self._run_one(item, deadline) for item in items))

    async def _run_one(self, item: BatchItem, deadline: float) -> Answer[BatchResult]:
        token_ids = np.asarray(item.text.token_ids, np.int32).tobytes()
        key: Key = (self._fingerprint, "query", token_ids)
        embedding = self._cache.find(key)
        if embedding is None and (flight := self._cache.join(key)) is not None:
            await asyncio.wait({flight}, timeout=deadline - time.monotonic())
            embedding = flight.result() if flight.done() else None
        computed = None
        try:
            known = replace(item, embedding=embedding)
            [answer] = await self._batcher.submit([known], "query", deadline)
            computed = answer.result.embedding
            return answer
        finally:
            self._cache.complete(key, computed)
