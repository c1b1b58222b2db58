"""The protocol of every backend, and its result, the ranking.

A row is the position of a vector in an index; rows never leave `service.retrieval`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.selection import Selection

MAX_TOP_K = 1000
# Candidates searched beyond top_k, so that equal scores at the cut are ordered by row.
EXTRA_CANDIDATES = 16
# A search whose ties go beyond its candidates is repeated with this many times as many.
WIDENING = 8

Selected = Sequence[Selection | None] | None
# Scores and rows of each query's candidates, both [B, C]; rows below 0 are padding.
Candidates = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest vectors of one query, best first; short only where too few are selected.

    Where identifiers of the query lifted some, `lifted` holds the scores with the lifts, which
    order them, and `matched` the keys of the identifiers by row.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    lifted: NDArray[np.float32] | None = None
    matched: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def first(self, top_k: int) -> "Ranking":
        """Return the `top_k` best of the ranking."""
        return Ranking(self.scores[:top_k], self.rows[:top_k])


class VectorIndex(Protocol):
    """A searchable set of unit-norm vectors; scores are inner products, in [-1, 1].

    Equal scores are ordered by rising row. An exact search returns the lowest rows of any number of
    ties, so that the best `k` are the first `k` of every longer ranking. An approximate search
    orders by row only the vectors that it returns.
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


def search_through_ties(find: Callable[[int], Candidates], top_k: int, count: int) -> list[Ranking]:
    """Rank by an exact search that returns an undefined choice of the ties at its cut.

    The search is repeated with more candidates until the last one is worse than the `top_k`-th.

    Args:
        find: returns each query's best candidates, as many as it is given: scores and rows, both
            [B, C], best first.
        top_k: the length of the rankings.
        count: how many vectors are searched.
    """
    num_candidates = min(top_k + EXTRA_CANDIDATES, count)
    scores, rows = find(num_candidates)
    while num_candidates < count and (scores[:, top_k - 1] == scores[:, -1]).any():
        num_candidates = min(num_candidates * WIDENING, count)
        scores, rows = find(num_candidates)
    return rank_batch((scores, rows), top_k)


def inner_products(queries: Tensor, vectors: Tensor) -> Tensor:
    """Multiply [B, D] by [N, D] to [B, N], in fp32 on the CPU."""
    # BLAS copies its right operand, so that must be the smaller one; a single column is slower than
    # two. With `queries @ vectors.T`, equal vectors could differ in the last bit of their scores.
    columns = queries if len(queries) > 1 else queries.repeat(2, 1)
    return (vectors @ columns.T).T[: len(queries)]


def best_candidates(similarities: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the best similarities and their columns, [B, N] to [B, K], in any order.

    Of equal similarities at the cut, those of the lowest columns are returned.
    """
    width = similarities.shape[1]
    scores, columns = similarities.topk(min(top_k + 1, width), dim=1)
    if width > top_k:
        is_tied = scores[:, -2] == scores[:, -1]
        for query in is_tied.nonzero().flatten().tolist() if is_tied.any() else ():
            last = scores[query, -1]
            if not last.isfinite():  # -inf: excluded
                continue
            num_better = int((scores[query] > last).sum())
            tied = (similarities[query] == last).nonzero().flatten()
            columns[query, num_better:top_k] = tied[: top_k - num_better]
        scores, columns = scores[:, :top_k], columns[:, :top_k]
    return scores, columns


def rank_batch(candidates: Candidates, top_k: int) -> list[Ranking]:
    """Rank each query's candidates, without padding."""
    return [
        rank_candidates(scores[rows >= 0], rows[rows >= 0], top_k)
        for scores, rows in zip(*candidates, strict=True)
    ]


def rank_candidates(scores: NDArray[np.float32], rows: NDArray[np.int64], top_k: int) -> Ranking:
    """Rank one query's candidates: by falling score, equal scores by rising row."""
    order = np.lexsort((rows, -scores))[:top_k]
    return Ranking(scores[order], rows[order])
