"""The protocol of every backend, and its result, the ranking.

A row is the position of a vector in an index; rows never leave `service.retrieval`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.selection import Selection

MAX_TOP_K = 1000
# Candidates searched beyond top_k, so that equal scores at the cut are ordered by row.
EXTRA_CANDIDATES = 16

Selected = Sequence[Selection | None] | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest vectors of one query, best first; short only where too few are selected."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def first(self, top_k: int) -> "Ranking":
        """Return the `top_k` best of the ranking."""
        return Ranking(self.scores[:top_k], self.rows[:top_k])


class VectorIndex(Protocol):
    """A searchable set of unit-norm vectors; scores are inner products, in [-1, 1].

    Equal scores are ordered by rising row. If more than `EXTRA_CANDIDATES` vectors tie with the
    last one, which of them are returned is undefined.
    """

    @property
    def count(self) -> int:
        """Return the number of vectors."""

    @property
    def embedding_dim(self) -> int:
        """Return the length of a vector."""

    def search(
        self,
        queries: NDArray[np.float32] | Tensor,
        top_k: int,
        selected: Selected = None,
    ) -> list[Ranking]:
        """Find each query's `top_k` nearest vectors among those selected for it.

        A ranking is shorter than `top_k` only if fewer vectors are selected.

        Args:
            queries: unit-norm, [B, D]; a tensor may be on the encoder's device.
            top_k: 1 to `MAX_TOP_K`.
            selected: one selection per query, None for all vectors; or None, to search all
                vectors for every query.
        """


def group_by_selection(
    selected: Selected, num_queries: int
) -> list[tuple[Selection | None, list[int]]]:
    """Group the queries by selection: each selection, with the numbers of its queries."""
    groups: dict[Filter | None, tuple[Selection | None, list[int]]] = {}
    for query, selection in enumerate(selected or [None] * num_queries):
        key = selection.filter if selection else None
        groups.setdefault(key, (selection, []))[1].append(query)
    return list(groups.values())


def empty_ranking() -> Ranking:
    """Return the ranking of a query that finds nothing."""
    return Ranking(np.empty(0, np.float32), np.empty(0, np.int64))


def rank_candidates(scores: NDArray[np.float32], rows: NDArray[np.int64], top_k: int) -> Ranking:
    """Rank one query's candidates: by falling score, equal scores by rising row."""
    order = np.lexsort((rows, -scores))[:top_k]
    return Ranking(scores[order], rows[order])
