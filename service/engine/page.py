"""A page of hits: which part of its rankings a request asks for."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from service.batching.request import Answer
from service.engine.outcome import rankings_of
from service.engine.work import BatchItem, BatchResult
from service.retrieval.corpus.filters import Filter
from service.retrieval.defaults import ANSWER_THRESHOLD
from service.retrieval.encoder.batches import Role
from service.retrieval.errors import FilterError
from service.retrieval.hits import Hit, fold_documents, fold_duplicates, fold_equal
from service.retrieval.identifiers.index import Match
from service.retrieval.index.backend import MAX_TOP_K, Ranking
from service.retrieval.relevance.model import DEPTH
from service.retrieval.searcher import Searcher

# A ranking is searched this many times as deep as the page, and again while too little is left.
FOLD_DEPTH = 2
DEEPENING = 4


@dataclass(frozen=True, slots=True)
class Page:
    """The hits from `offset` on, at most `top_k`; both count what is left after folding.

    `without` is the id of a document that is no hit: the one that others are to be like. Such hits
    have no relevance, because there is no question. `by_document` folds the chunks of a document.
    `evidence` finds the part of each hit that answers. `text_of`, which returns the text of a
    document, folds documents with equal texts. `resolve` sets what depends on the index.
    """

    top_k: int
    offset: int = 0
    min_score: float = -1.0
    fold: bool = False
    without: str | None = None
    min_relevance: float | None = None
    answer_threshold: float = ANSWER_THRESHOLD
    by_document: bool = False
    has_chunks: bool = False
    evidence: bool = False
    text_of: Callable[[str], str] | None = None

    @property
    def may_fold(self) -> bool:
        """Return whether fewer hits may be left than a ranking has."""
        folds = self.fold or self.by_document or self.text_of is not None
        return folds or (self.has_chunks and self.without is not None)

    @property
    def depth(self) -> int:
        """Return how many vectors a ranking should have at first: enough to tell the relevance."""
        return max(DEPTH, min(MAX_TOP_K, self._needed * (FOLD_DEPTH if self.may_fold else 1)))

    @property
    def most_hits(self) -> int | None:
        """Return how many hits of a ranking to look up; None if folding may need all."""
        return None if self.may_fold else self._needed

    @property
    def _needed(self) -> int:
        return self.offset + self.top_k + (self.without is not None)

    def resolve(
        self, queries: Sequence[str], searcher: Searcher
    ) -> "tuple[Page, Sequence[str], Role]":
        """Return the page of a generation's documents, and what to search for.

        Raises:
            FilterError: the generation has no passage `without`.
        """
        generation = searcher.generation
        page = replace(
            self,
            by_document=self.by_document and searcher.has_chunks,
            has_chunks=searcher.has_chunks,
            text_of=generation.passages.document_text if generation.manifest.deduplicate else None,
        )
        if self.without is None:
            return page, queries, "query"
        liked = searcher.passage_like(self.without)
        return replace(page, without=liked.document_id), [liked.encoder_text], "passage"

    def check(self, searcher: Searcher) -> None:
        """Refuse a least relevance where hits have none.

        Raises:
            FilterError: naming the reason.
        """
        if self.min_relevance is not None and (reason := searcher.relevance.reason):
            raise FilterError("min_relevance", f"hits have no relevance here: {reason}")

    def matches(
        self, searcher: Searcher, queries: Sequence[str], filter: Filter | None
    ) -> list[Match | None]:
        """Return what the identifiers of each query match; a liked passage is no question."""
        if self.without is not None:
            return [None] * len(queries)
        return [searcher.match(query, filter) for query in queries]

    def left(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return what is left of a ranking's hits, ranked anew."""
        if self.without is not None:
            hits = [hit for hit in hits if hit.passage.document_id != self.without]
            hits = [
                replace(hit, rank=rank, relevance=None) for rank, hit in enumerate(hits, start=1)
            ]
        if self.by_document:
            hits = fold_documents(hits)
        if self.fold:  # which folds equal texts, too
            return fold_duplicates(hits)
        return fold_equal(hits, self.text_of) if self.text_of else list(hits)

    def answered(
        self, searcher: Searcher, rankings: Sequence[Ranking], hits: Sequence[list[Hit]]
    ) -> list[bool | None]:
        """Return whether each query's best relevance reaches the threshold; None if it has none.

        This depends neither on the page that was asked for nor on the least score or relevance.

        Args:
            searcher: found the hits.
            rankings: of the queries.
            hits: what is left of each ranking, the best first.
        """
        if searcher.relevance.reason or self.without is not None:
            return [None] * len(rankings)
        return [
            self._is_answered(searcher, ranking, left)
            for ranking, left in zip(rankings, hits, strict=True)
        ]

    def _is_answered(self, searcher: Searcher, ranking: Ranking, hits: list[Hit]) -> bool:
        has_best = bool(hits) and hits[0].row == ranking.rows[0]  # it is not below min_score
        best = hits[0].relevance if has_best else searcher.best_relevance(ranking)
        return best is not None and best >= self.answer_threshold

    def cut(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return the page's part of what is left; the relevance falls with the rank."""
        if (least := self.min_relevance) is not None:
            hits = [hit for hit in hits if (hit.relevance or 0.0) >= least]
        return list(hits[self.offset : self.offset + self.top_k])

    def with_evidence(
        self, searcher: Searcher, answers: Sequence[Answer[BatchResult]], hits: list[list[Hit]]
    ) -> list[list[Hit]]:
        """Return the hits of each query with their evidence, if it is asked for.

        A passage `without` asks no question, and its hits have none.
        """
        if not self.evidence or self.without is not None:
            return hits
        queries = [answer.result.embedding.cpu().numpy() for answer in answers]
        return list(map(searcher.with_evidence, hits, queries))

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
    matches: Sequence[Match | None],
    hits: Sequence[list[Hit]],
    page: Page,
    run: Callable[[Sequence[BatchItem]], Awaitable[Sequence[Answer[BatchResult]]]],
    look_up: Callable[[Sequence[Ranking]], Awaitable[list[list[Hit]]]],
) -> list[list[Hit]]:
    """Search again, deeper, for the queries of which folding left too few hits.

    Args:
        items: the queries.
        answers: of the queries.
        matches: of the queries' identifiers.
        hits: what is left of each query's hits.
        page: what the request asks for.
        run: searches.
        look_up: returns what is left of the hits of rankings.
    """
    left = dict(enumerate(hits))
    searched = dict(enumerate(zip(items, answers, strict=True)))
    while again := {
        row: replace(item, top_k=depth, embedding=answer.result.embedding)
        for row, (item, answer) in searched.items()
        if (depth := page.deeper(left[row], answer.result.ranking, item.top_k))
    }:
        found = await run(list(again.values()))
        rankings = rankings_of(found, [matches[row] for row in again])
        left |= dict(zip(again, await look_up(rankings), strict=True))
        searched = dict(zip(again, zip(again.values(), found, strict=True), strict=True))
    return [left[row] for row in range(len(items))]
