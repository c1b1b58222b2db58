"""Embeddings of queries asked before, and of queries being embedded just now."""

import asyncio
from collections import OrderedDict

from torch import Tensor

# Encoder, role, and the token ids: what the tokenizer makes equal is embedded equally.
Key = tuple[str, str, bytes]


class QueryCache:
    """The most recently used embeddings, and one flight for equal queries at the same time.

    Lives in the event loop; not thread-safe.
    """

    def __init__(self, max_entries: int) -> None:
        """Keep so many embeddings; 0 switches the cache and the sharing of flights off."""
        self._max_entries = max_entries
        self._embeddings: OrderedDict[Key, Tensor] = OrderedDict()
        self._flights: dict[Key, asyncio.Future[Tensor | None]] = {}
        self.num_lookups = 0
        self.num_hits = 0

    @property
    def is_on(self) -> bool:
        """Tell whether it keeps anything."""
        return self._max_entries > 0

    @property
    def hit_ratio(self) -> float:
        """Tell the share of queries that needed no forward pass of their own."""
        return self.num_hits / self.num_lookups if self.num_lookups else 0.0

    def find(self, key: Key) -> Tensor | None:
        """Look an embedding up."""
        if not self.is_on:
            return None
        self.num_lookups += 1
        embedding = self._embeddings.get(key)
        if embedding is not None:
            self._embeddings.move_to_end(key)
            self.num_hits += 1
        return embedding

    def board(self, key: Key) -> asyncio.Future[Tensor | None] | None:
        """Join the flight of an equal query; None where there is none, and this one takes off."""
        if not self.is_on:
            return None
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = asyncio.get_running_loop().create_future()
            return None
        self.num_hits += 1
        return flight

    def land(self, key: Key, embedding: Tensor | None) -> None:
        """End a flight: with its embedding, or with None where it failed."""
        flight = self._flights.pop(key, None)
        if flight is None:
            return
        if not flight.done():
            flight.set_result(embedding)
        if embedding is not None:
            self._embeddings[key] = embedding.clone()
            if len(self._embeddings) > self._max_entries:
                self._embeddings.popitem(last=False)
