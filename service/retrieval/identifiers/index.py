"""The identifiers of an index: which passages those of a question lift, and how far."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.table import PassageTable
from service.retrieval.identifiers.postings import Postings, Rows
from service.retrieval.identifiers.tokens import Kind, asked_identifiers, each_identifier
from service.retrieval.index.backend import Ranking

# An identifier is rare in at most this share of the documents, and in at most so many; but a code
# is rare in 3 documents of any corpus, every other identifier in one.
MAX_SHARE = 0.01
MOST_DOCUMENTS = 32
MOST_PASSAGES = 256
LEAST_DOCUMENTS = {Kind.CODE: 3, Kind.NUMBER: 1, Kind.ACRONYM: 1, Kind.NAME: 1}
# How far an identifier of one document lifts it, in standard deviations of unrelated best scores.
STRENGTHS = {Kind.CODE: 8.0, Kind.NUMBER: 3.0, Kind.ACRONYM: 1.0, Kind.NAME: 0.5}

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """The passages that hold rare identifiers of a question: rows ascending, lifts, and keys.

    `vectors` are those of all passages as they were computed, [N, D].
    """

    rows: Rows
    lifts: Scores
    keys: tuple[tuple[str, ...], ...]
    vectors: Scores

    def among(self, mask: NDArray[np.bool_]) -> "Match":
        """Return the match among the rows of a mask."""
        kept = np.flatnonzero(mask[self.rows])
        keys = tuple(self.keys[number] for number in kept)
        return Match(self.rows[kept], self.lifts[kept], keys, self.vectors)


class NoIdentifiers:
    """Stands for the identifiers of an index that holds none."""

    reason: str | None = "the index holds no identifiers: build or update it"

    def match(self, question: str) -> Match | None:
        """Find nothing."""
        return None


class IdentifierIndex:
    """Finds the passages of a generation that hold rare identifiers of a question."""

    reason: str | None = None

    def __init__(
        self, postings: Postings, passages: PassageTable, vectors: Scores, unit: float
    ) -> None:
        """Keep the parts of a generation.

        Args:
            postings: its identifiers.
            passages: its table.
            vectors: its vectors as they were computed, [N, D].
            unit: the standard deviation of the best scores of unrelated questions.
        """
        self._postings, self._passages = postings, passages
        self._vectors, self._unit = vectors, unit
        self._most = min(int(MAX_SHARE * passages.num_documents), MOST_DOCUMENTS)

    def match(self, question: str) -> Match | None:
        """Return the passages that hold rare identifiers of a question; None if none does."""
        lifts: dict[int, float] = {}
        keys: dict[int, tuple[str, ...]] = {}
        for asked in asked_identifiers(question):
            key, rows = self._first_known(asked.keys)
            if num_documents := self._rare_documents(rows, LEAST_DOCUMENTS[asked.kind]):
                lift = STRENGTHS[asked.kind] * self._rarity(num_documents)
                for row in rows.tolist():
                    lifts[row] = lifts.get(row, 0.0) + lift
                    keys[row] = (*keys.get(row, ()), key)
        if not lifts:
            return None
        found = sorted(lifts)
        return Match(
            np.array(found, np.int64),
            np.array([self._unit * lifts[row] for row in found], np.float32),
            tuple(keys[row] for row in found),
            self._vectors,
        )

    def _first_known(self, keys: tuple[str, ...]) -> tuple[str, Rows]:
        """Return the first key that a passage holds, and the rows of those that do."""
        rows = np.empty(0, np.int64)
        for key in keys:
            rows = self._postings.rows(key)
            if len(rows):
                return key, rows
        return "", rows

    def _rare_documents(self, rows: Rows, least: int) -> int:
        """Return the number of documents of some passages; 0 if they are not rare."""
        count, most = len(rows), max(self._most, least)
        if count > most and self._passages.has_chunks and count <= MOST_PASSAGES:
            count = len(set(self._passages.document_ids(rows.tolist())))
        return count if count <= most else 0

    def _rarity(self, num_documents: int) -> float:
        """Return 1 for an identifier of one document, less for one of several."""
        total = self._passages.num_documents
        return math.log(total / num_documents) / math.log(total) if total > num_documents else 1.0


def written(passage: Passage, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return some identifiers as a passage writes them."""
    found: dict[str, str] = {}
    for key, as_written in each_identifier(passage.title, passage.text) if keys else ():
        if key in keys and key not in found:
            found[key] = as_written
            if len(found) == len(set(keys)):
                break
    return tuple(dict.fromkeys(found[key] for key in keys if key in found))


def fuse(ranking: Ranking, embedding: Scores, match: Match | None) -> Ranking:
    """Return a question's ranking with the passages of a match, ordered by score and lift.

    The score of a lifted passage is exact, whatever the backend, and the same however deep the
    ranking is.

    Args:
        ranking: among the passages that the match was searched in.
        embedding: of the question, [D].
        match: None leaves the ranking as it is.
    """
    if match is None:
        return ranking
    matched = dict(zip(match.rows.tolist(), match.keys, strict=True))
    is_other = np.array([row not in matched for row in ranking.rows.tolist()], np.bool_)
    rows = np.concatenate([ranking.rows[is_other], match.rows])
    exact = (match.vectors[match.rows] @ embedding).astype(np.float32)
    scores = np.concatenate([ranking.scores[is_other], exact])
    lifted = np.concatenate([ranking.scores[is_other], exact + match.lifts])
    order = np.lexsort((rows, -lifted))
    return Ranking(scores[order], rows[order], lifted[order], matched)
