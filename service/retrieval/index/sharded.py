"""An index split by rows, so that several GPUs hold what one cannot."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.index.backend import (
    Ranking,
    Selected,
    VectorIndex,
    rank_candidates,
)


class ShardedIndex:
    """Shards searched in parallel, behind the protocol `VectorIndex`."""

    def __init__(self, shards: Sequence[VectorIndex]) -> None:
        """Join shards: the rows of each follow those of the shard before it."""
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(shard.count for shard in shards)]).tolist()
        self._threads = ThreadPoolExecutor(len(shards), thread_name_prefix="index-shard")

    @property
    def count(self) -> int:
        """Return the number of vectors."""
        return int(self._starts[-1])

    @property
    def embedding_dim(self) -> int:
        """Return the length of a vector."""
        return self._shards[0].embedding_dim

    def search(
        self, queries: NDArray[np.float32] | Tensor, top_k: int, selected: Selected = None
    ) -> list[Ranking]:
        """Find each query's nearest vectors; arguments as in `VectorIndex.search`."""

        def search_shard(number: int) -> list[Ranking]:
            part = self._starts[number], self._starts[number + 1]
            parts = None if selected is None else [each and each.part(*part) for each in selected]
            return self._shards[number].search(queries, top_k, parts)

        found = list(self._threads.map(search_shard, range(len(self._shards))))
        return [
            rank_candidates(
                np.concatenate([ranking.scores for ranking in rankings]),
                np.concatenate(
                    [
                        ranking.rows + start
                        for ranking, start in zip(rankings, self._starts, strict=False)
                    ]
                ),
                top_k,
            )
            for rankings in zip(*found, strict=True)
        ]
