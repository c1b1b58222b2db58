"""Queries in, hits out: one encoder with the one index that it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import Selections
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import Generation
from service.retrieval.index.backend import Ranking

CANARY_TOP_K = 3


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found; rank 1 is the best."""

    rank: int
    score: float
    passage: Passage

    def as_dict(self, include_text: bool = True) -> dict[str, object]:
        """Lay the hit out as `/search` answers it; a text left out is None."""
        return {
            "passage_id": self.passage.passage_id,
            "score": self.score,
            "rank": self.rank,
            "title": self.passage.title,
            "text": self.passage.text if include_text else None,
            "metadata": dict(self.passage.metadata),
        }


class Searcher:
    """Searches one generation with the encoder that embedded it."""

    def __init__(self, encoder: Encoder, generation: Generation) -> None:
        """Join the two.

        Raises:
            EncoderMismatchError: another encoder embedded the index.
        """
        generation.check_encoder(encoder)
        self.encoder = encoder
        self.generation = generation
        self.selections = Selections(generation.passages)

    @property
    def canary_queries(self) -> list[str]:
        """List what the build asked when it was done."""
        return [canary.query for canary in self.generation.manifest.canaries]

    def check_canaries(self) -> None:
        """Ask what the build asked, to see that encoder and index still work together.

        Raises:
            GenerationError: as `compare_canaries`.
        """
        self.compare_canaries(self.search(self.canary_queries, CANARY_TOP_K))

    def compare_canaries(self, answers: Sequence[Sequence[Hit]]) -> None:
        """Hold answers to the canary queries against those that the build had.

        A query side trained later may rank a few passages otherwise; one that ranks most of them
        otherwise does not belong to these vectors.

        Raises:
            GenerationError: a query's first passage is no longer among its first three; by
                another query side than the build's, those of more than half of the queries.
        """
        canaries = self.generation.manifest.canaries
        misses = []
        for number, (canary, hits) in enumerate(zip(canaries, answers, strict=True), start=1):
            found = [hit.passage.passage_id for hit in hits]
            if canary.passage_ids and canary.passage_ids[0] not in found:
                misses.append(
                    f"canary query {number}: {canary.passage_ids[0]} expected, "
                    f"{', '.join(found)} found"
                )
        built_by = self.generation.manifest.encoder
        is_other_side = built_by.canary_fingerprint != self.encoder.fingerprint
        if len(misses) > (len(canaries) // 2 if is_other_side else 0):
            raise GenerationError(
                f"the generation {self.generation.name} fails its {misses[0]}; build again"
            )

    def search(
        self,
        queries: Sequence[str],
        top_k: int = 10,
        min_score: float = -1.0,
        filter: Filter | None = None,
    ) -> list[list[Hit]]:
        """Find each query's best passages.

        Args:
            queries: in any language.
            top_k: hits a query at the most.
            min_score: leave out hits below this inner product.
            filter: leave out what does not fit it.

        Raises:
            FilterError: the index does not declare what is filtered by.
        """
        if filter:
            self.selections.select(filter)
        embeddings = self.encoder.encode(queries, "query").embeddings
        rankings = self.rank(embeddings, top_k, [filter] * len(queries))
        return [self.hits(ranking, min_score) for ranking in rankings]

    def rank(
        self,
        embeddings: Embeddings | Tensor,
        top_k: int,
        filters: Sequence[Filter | None] = (),
    ) -> list[Ranking]:
        """Find each query's nearest vectors, [B, D] in; those with filters share the batch."""
        selected = None
        if any(filters):
            selected = [each if each is None else self.selections.select(each) for each in filters]
        return self.generation.vectors.search(embeddings, top_k, selected)

    def hits(self, ranking: Ranking, min_score: float = -1.0) -> list[Hit]:
        """Look up the passages of one query's ranking."""
        scores = [score for score in ranking.scores.tolist() if score >= min_score]
        passages = self.generation.passages.read(ranking.rows[: len(scores)].tolist())
        return [
            Hit(rank, score, passage)
            for rank, (score, passage) in enumerate(zip(scores, passages, strict=True), start=1)
        ]
