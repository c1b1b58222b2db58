"""A page of hits: which part of its rankings a request asks for."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from service.batching.request import Answer
from service.engine.work import BatchItem, BatchResult
from service.retrieval.hits import Hit, fold_duplicates
from service.retrieval.index.backend import MAX_TOP_K, Ranking

# A ranking is searched this many times as deep as the page, and again while too little is left.
FOLD_DEPTH = 2
DEEPENING = 4


@dataclass(frozen=True, slots=True)
class Page:
    """The hits from `offset` on, at most `top_k`; both count what is left after folding.

    `without` is the id of a passage that is no hit: the one that others are to be like.
    """

    top_k: int
    offset: int = 0
    min_score: float = -1.0
    fold: bool = False
    without: str | None = None

    @property
    def depth(self) -> int:
        """Return how many vectors a ranking should have at first."""
        needed = self.offset + self.top_k + (self.without is not None)
        return min(MAX_TOP_K, needed * (FOLD_DEPTH if self.fold else 1))

    def left(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return what is left of a ranking's hits, ranked anew."""
        if self.without is not None:
            hits = [hit for hit in hits if hit.passage.passage_id != self.without]
            hits = [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]
        return fold_duplicates(hits) if self.fold else list(hits)

    def cut(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return the page's part of what is left."""
        return list(hits[self.offset : self.offset + self.top_k])

    def deeper(self, hits: Sequence[Hit], ranking: Ranking | None, depth: int) -> int | None:
        """Return how deep to search again; None if the page is full or nothing more can be found.

        Args:
            hits: what is left.
            ranking: where the hits come from.
            depth: how deep it was searched.
        """
        is_full = len(hits) >= self.offset + self.top_k
        if is_full or ranking is None or len(ranking.rows) < depth or depth >= MAX_TOP_K:
            return None
        if ranking.scores[-1] < self.min_score:
            return None
        return min(MAX_TOP_K, depth * DEEPENING)


async def deepen(
    items: Sequence[BatchItem],
    answers: Sequence[Answer[BatchResult]],
    hits: Sequence[list[Hit]],
    page: Page,
    run: Callable[[Sequence[BatchItem]], Awaitable[Sequence[Answer[BatchResult]]]],
    look_up: Callable[[Sequence[Answer[BatchResult]]], Awaitable[list[list[Hit]]]],
) -> list[list[Hit]]:
    """Search again, deeper, for the queries of which folding left too few hits.

    Args:
        items: the queries.
        answers: of the queries.
        hits: what is left of each query's hits.
        page: what the request asks for.
        run: searches.
        look_up: returns what is left of the hits of answers.
    """
    left = dict(enumerate(hits))
    searched = dict(enumerate(zip(items, answers, strict=True)))
    while again := {
        row: replace(item, top_k=depth, embedding=answer.result.embedding)
        for row, (item, answer) in searched.items()
        if (depth := page.deeper(left[row], answer.result.ranking, item.top_k))
    }:
        found = await run(list(again.values()))
        left |= dict(zip(again, await look_up(found), strict=True))
        searched = dict(zip(again, zip(again.values(), found, strict=True), strict=True))
    return [left[row] for row in range(len(items))]
