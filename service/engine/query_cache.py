"""The query cache: embeddings of recent queries, and of queries that are being encoded now."""

import asyncio
from collections import OrderedDict

from torch import Tensor

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
