"""Results of searches as the service answers them: hits, their evidence, facets."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Evidence:
    """The part of a hit's text that answers the query best: `text[start:end]`."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; rank 1 is the best, the score is a cosine.

    `relevance` is the probability that it answers the query, if known. Of a document that was split
    it is a chunk, from `start` to `end`; `more_chunks` counts the others that were found.
    `matched` are rare codes, numbers and names of the query that it holds. `evidence` is None
    unless it was asked for, and where nothing in the text stands out.
    """

    passage_id: str
    score: float
    rank: int
    title: str
    text: str | None
    metadata: dict[str, Any]
    duplicates: int | None = None
    relevance: float | None = None
    document_id: str | None = None
    start: int | None = None
    end: int | None = None
    more_chunks: int | None = None
    duplicate_ids: list[str] | None = None
    evidence: Evidence | None = None
    matched: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a field, and the number of passages that have it."""

    value: str | bool | int | float
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The most frequent values of a field, and the number of all its values."""

    values: list[FacetValue]
    num_values: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, and the index and encoder that found them.

    `answered` says whether the best hit probably answers it; None if the service cannot tell.
    `language_quality` says how well the encoder serves the query's language: `good`, `fair`, `poor`
    or `unknown`. `language_uncertain` says whether the query was too short, or too like several
    languages, to detect its language for certain. `truncated` says whether the query was over the
    encoder's limit.
    """

    language: str
    hits: list[Hit]
    facets: dict[str, Facet]
    generation: str
    num_passages: int
    encoder: str
    took_ms: dict[str, float]
    answered: bool | None = None
    language_quality: str = "unknown"
    truncated: bool = False
    language_uncertain: bool = False


def read_results(answer: dict[str, Any]) -> list[SearchResult]:
    """Read a response of `/search`."""
    facets = {
        name: Facet([FacetValue(**value) for value in facet["values"]], facet["num_values"])
        for name, facet in (answer.get("facets") or {}).items()
    }
    return [
        SearchResult(
            language=result["language"],
            hits=[_read_hit(hit) for hit in result["hits"]],
            facets=facets,
            generation=answer["index"]["generation"],
            num_passages=answer["index"]["passages"],
            encoder=answer["encoder"],
            took_ms=answer["took_ms"],
            answered=result.get("answered"),
            language_quality=result.get("language_quality", "unknown"),
            truncated=bool(result.get("truncated")),
            language_uncertain=bool(result.get("language_uncertain")),
        )
        for result in answer["results"]
    ]


def _read_hit(answer: dict[str, Any]) -> Hit:
    evidence = answer.get("evidence")
    return Hit(**{**answer, "evidence": Evidence(**evidence) if evidence else None})
