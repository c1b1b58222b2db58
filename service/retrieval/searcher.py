"""Search: from queries to hits, by an encoder and the index that it embedded."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import Selections
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import EmbeddingError, FilterError, GenerationError
from service.retrieval.generation import canaries
from service.retrieval.generation.generation import Generation, query_prompt_warning
from service.retrieval.hits import Hit
from service.retrieval.identifiers.index import Match, fuse, written
from service.retrieval.index.backend import Ranking
from service.retrieval.relevance.background import (
    Background,
    general_questions,
    measure_background,
)
from service.retrieval.relevance.choice import choose_relevance
from service.retrieval.relevance.model import DEPTH

CANARY_TOP_K = 3
# Embeddings of the general questions by query side: a service that builds needs them often.
_GENERAL: dict[tuple[str, str, int], Embeddings] = {}


class Searcher:
    """Searches one generation with the encoder that embedded it."""

    def __init__(self, encoder: Encoder, generation: Generation) -> None:
        """Pair an encoder with a generation.

        Raises:
            EncoderMismatchError: another encoder embedded the generation.
        """
        generation.check_encoder(encoder)
        self.encoder = encoder
        self.generation = generation
        self.selections = Selections(generation.passages)
        self._use(generation.manifest.background)

    def _use(self, background: Background | None) -> None:
        self.relevance = choose_relevance(
            self.generation.calibration,
            self.encoder.checkpoint.facts,
            background,
            self.encoder.fingerprint,
        )

    @property
    def background_queries(self) -> list[str]:
        """Return the queries by which to measure the background; none if it needs no measuring.

        A generation records the background of the query side that built it. An older generation
        records none.
        """
        is_missing = self.relevance.calibration is not None and self.relevance.background is None
        return list(general_questions()) if is_missing else []

    def use_background(self, rankings: Sequence[Ranking]) -> None:
        """Measure the background by the rankings of `background_queries`."""
        scores = [ranking.scores for ranking in rankings]
        self._use(measure_background(self.encoder.fingerprint, scores))

    def prepare_relevance(self) -> None:
        """Search for `background_queries`, if there are any."""
        if self.background_queries:
            self._use(self.measure_background())

    def measure_background(self) -> Background | None:
        """Search for the general questions; None if one of them has no unit vector."""
        try:
            embeddings = _embed_general_questions(self.encoder)
        except EmbeddingError:
            return None
        rankings = self.rank(embeddings, min(DEPTH, self.generation.vectors.count))
        return measure_background(self.encoder.fingerprint, [each.scores for each in rankings])

    @property
    def warning(self) -> str:
        """Return what of the index does not fit the encoder: prompt of queries, calibration."""
        prompt = query_prompt_warning(self.generation.manifest.encoder, self.encoder.checkpoint)
        is_unfit = self.generation.calibration is not None and self.relevance.calibration is None
        reason = f"hits have no relevance: {self.relevance.reason}" if is_unfit else ""
        return "; ".join(filter(None, (prompt, reason)))

    @property
    def canary_queries(self) -> list[str]:
        """Return the queries whose hits the build recorded in the manifest."""
        return [canary.query for canary in self.generation.manifest.canaries]

    def check_canaries(self) -> None:
        """Search for the canary queries, to check that encoder and index work together.

        Raises:
            GenerationError: as in `compare_canaries`, or a query has no unit vector.
        """
        try:
            answers = self.search(self.canary_queries, CANARY_TOP_K, by_identifiers=False)
        except EmbeddingError as error:
            raise self.invalid_canary(error.positions[0]) from None
        self.compare_canaries(answers)

    def invalid_canary(self, position: int) -> GenerationError:
        """Return the error of a canary query for which the encoder gives no unit vector."""
        return canaries.invalid_canary(self.generation, self.encoder, position)

    def compare_canaries(self, answers: Sequence[Sequence[Hit]]) -> None:
        """Compare the hits of the canary queries with those that the build recorded.

        Raises:
            GenerationError: too many canary queries miss.
        """
        canaries.compare_canaries(self.generation, self.encoder, answers)

    @property
    def has_chunks(self) -> bool:
        """Return whether any document of the generation is split."""
        return self.generation.passages.has_chunks

    def passage_like(self, passage_id: str) -> Passage:
        """Return the passage that others are to be like; of a document that is split, its first.

        Raises:
            FilterError: the generation has neither a passage nor a document of this id.
        """
        table = self.generation.passages
        row = table.find(passage_id)
        if row is None:
            row = next(iter(table.rows_of(passage_id)), None)
        if row is None:
            raise FilterError("more_like", "the index has no passage of this id: search for it")
        return table.read([row])[0]

    def search(
        self,
        queries: Sequence[str],
        top_k: int = 10,
        min_score: float = -1.0,
        filter: Filter | None = None,
        evidence: bool = False,
        by_identifiers: bool = True,
    ) -> list[list[Hit]]:
        """Find the best passages of each query.

        Args:
            queries: in any language.
            top_k: most hits per query.
            min_score: drop hits below this inner product.
            filter: search only among passages that match it.
            evidence: whether to find the evidence in each hit.
            by_identifiers: lift passages that hold rare identifiers of the query.

        Raises:
            FilterError: the index does not declare a field of the filter.
            EmbeddingError: a query has no unit vector.
        """
        if filter:
            self.selections.select(filter)
        embeddings = self.encoder.encode(queries, "query").embeddings
        rankings = self.rank(embeddings, max(top_k, DEPTH), [filter] * len(queries))
        if by_identifiers:
            matches = [self.match(query, filter) for query in queries]
            rankings = list(map(fuse, rankings, embeddings, matches))
        found = [self.hits(ranking, min_score, top_k) for ranking in rankings]
        return list(map(self.with_evidence, found, embeddings)) if evidence else found

    def match(self, query: str, filter: Filter | None = None) -> Match | None:
        """Return the passages that hold rare identifiers of a query, among those of a filter."""
        found = self.generation.identifiers.match(query)
        return found.among(self.selections.select(filter).mask) if found and filter else found

    def rank(
        self,
        embeddings: Embeddings | Tensor,
        top_k: int,
        filters: Sequence[Filter | None] = (),
    ) -> list[Ranking]:
        """Find the nearest vectors of each query, [B, D]; queries may have different filters."""
        selected = None
        if any(filters):
            selected = [each if each is None else self.selections.select(each) for each in filters]
        return self.generation.vectors.search(embeddings, top_k, selected)

    def hits(
        self, ranking: Ranking, min_score: float = -1.0, top_k: int | None = None
    ) -> list[Hit]:
        """Return the hits of one query's ranking, with their passages; no score is NaN.

        Args:
            ranking: with at least `DEPTH` vectors, where there are as many.
            min_score: drop hits below this inner product.
            top_k: most hits; all by default.
        """
        scores, rows, lifted = ranking.scores.tolist(), ranking.rows.tolist(), _order(ranking)
        places = [place for place, score in enumerate(lifted) if not math.isnan(score)]
        found: Sequence[float | None] | None = self.relevance.of([lifted[each] for each in places])
        least = float(np.float32(min_score))  # scores are fp32
        pairs = zip(places, found or [None] * len(places), strict=True)
        kept = [pair for pair in pairs if scores[pair[0]] >= least][:top_k]
        passages = self.generation.passages.read([rows[place] for place, _ in kept])
        hits: list[Hit] = []
        for (place, relevance), passage in zip(kept, passages, strict=True):
            row = rows[place]
            matched = written(passage, ranking.matched.get(row, ()))
            hits.append(Hit(len(hits) + 1, scores[place], passage, relevance, matched, row=row))
        return hits

    def best_relevance(self, ranking: Ranking) -> float | None:
        """Return the relevance of the best hit of a ranking, whatever its score; None without."""
        scores = [score for score in _order(ranking) if not math.isnan(score)]
        return next(iter(self.relevance.of(scores) or ()), None)

    def with_evidence(self, hits: Sequence[Hit], query: Embeddings) -> list[Hit]:
        """Set the evidence in each hit for a query [D], and return them; none without a table."""
        if (table := self.generation.evidence) is not None:
            found = table.find([hit.row for hit in hits], query)
            for hit, evidence in zip(hits, found, strict=True):
                hit.evidence = evidence
        return list(hits)


def _order(ranking: Ranking) -> list[float]:
    """Return the scores that order a ranking."""
    scores: list[float] = (ranking.scores if ranking.lifted is None else ranking.lifted).tolist()
    return scores


def _embed_general_questions(encoder: Encoder) -> Embeddings:
    """Embed the general questions, a length at a time: their bits depend on nothing else."""
    key = (encoder.fingerprint, encoder.runtime.name, encoder.max_tokens)
    if key not in _GENERAL:
        texts = encoder.tokenize(general_questions(), "query")
        lengths = np.array([len(text.token_ids) for text in texts])
        found = np.empty((len(texts), encoder.embedding_dim), np.float32)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            found[rows] = encoder.encode_tokenized([texts[row] for row in rows])
        _GENERAL[key] = found
    return _GENERAL[key]
