"""What every backend is and does. A row is a vector's position; rows never leave the retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.selection import Selection

MAX_TOP_K = 1000
# More candidates than asked for, to find the lowest rows among equal scores at the cut.
EXTRA_CANDIDATES = 16

Selected = Sequence[Selection | None] | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query's nearest vectors, best first; as long as there are vectors to be found."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def first(self, top_k: int) -> "Ranking":
        """Cut the ranking to its best."""
        return Ranking(self.scores[:top_k], self.rows[:top_k])


class VectorIndex(Protocol):
    """A searchable set of unit-norm vectors; scores are inner products, in [-1, 1].

    Equal scores come lowest row first; where more than `EXTRA_CANDIDATES` vectors tie with the
    last one, it is not defined which of them come.
    """

    @property
    def count(self) -> int:
        """Count the vectors."""

    @property
    def embedding_dim(self) -> int:
        """Tell the length of a vector."""

    def search(
        self,
        queries: NDArray[np.float32] | Tensor,
        top_k: int,
        selected: Selected = None,
    ) -> list[Ranking]:
        """Find each query's `top_k` nearest vectors among those selected for it.

        A ranking is shorter only where fewer are selected, however few they are.

        Args:
            queries: unit-norm, [B, D]; a tensor may be on the device that encodes.
            top_k: 1 to `MAX_TOP_K`.
            selected: one a query, None for all vectors; or None, for all of every query.
        """


def by_selection(selected: Selected, num_queries: int) -> list[tuple[Selection | None, list[int]]]:
    """Group queries that search among the same vectors: each selection with its queries."""
    groups: dict[Filter | None, tuple[Selection | None, list[int]]] = {}
    for query, selection in enumerate(selected or [None] * num_queries):
        key = selection.filter if selection else None
        groups.setdefault(key, (selection, []))[1].append(query)
    return list(groups.values())


def empty_ranking() -> Ranking:
    """Make the ranking of a query that finds nothing."""
    return Ranking(np.empty(0, np.float32), np.empty(0, np.int64))


def best_first(scores: NDArray[np.float32], rows: NDArray[np.int64], top_k: int) -> Ranking:
    """Rank one query's candidates: by falling score, equal ones by rising row."""
    order = np.lexsort((rows, -scores))[:top_k]
    return Ranking(scores[order], rows[order])
