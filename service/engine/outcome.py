"""The outcome of a request: what the engine returns, and its times and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from service.batching.request import Answer
from service.engine.language import QueryLanguage
from service.engine.work import BatchResult
from service.retrieval.corpus.selection import Facet
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.generation.generation import Generation
from service.retrieval.hits import Hit
from service.retrieval.identifiers.index import Match, fuse
from service.retrieval.index.backend import Ranking
from service.telemetry.metrics import Stage


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The answer to one search request, from one generation."""

    generation: Generation
    hits: list[list[Hit]]
    answered: list[bool | None]
    truncated: list[bool]
    languages: list[QueryLanguage]
    stage_seconds: dict[Stage, float]
    facets: dict[str, Facet]


@dataclass(frozen=True, slots=True)
class EncodeOutcome:
    """The answer to one encode request."""

    embeddings: Embeddings
    num_tokens: int
    num_truncated: int
    stage_seconds: dict[Stage, float]


def best_scores(answers: Sequence[Answer[BatchResult]]) -> list[float | None]:
    """Return each query's best score; None where nothing was found."""
    rankings = (answer.result.ranking for answer in answers)
    return [
        float(ranking.scores[0]) if ranking and len(ranking.rows) else None for ranking in rankings
    ]


def rankings_of(
    answers: Sequence[Answer[BatchResult]], matches: Sequence[Match | None] = ()
) -> list[Ranking]:
    """Return the rankings of answers that have one, with what their queries' identifiers match."""
    found = zip_longest([answer.result for answer in answers], matches)
    return [
        fuse(result.ranking, result.embedding.float().cpu().numpy(), match)
        if match
        else result.ranking
        for result, match in found
        if result.ranking
    ]


def batch_seconds(answers: Sequence[Answer[BatchResult]]) -> dict[Stage, float]:
    """Return a request's seconds in the queue and in the encoder: of its slowest text."""
    return {
        "queue": max(answer.queue_seconds for answer in answers),
        "encode": max(answer.result.encode_seconds for answer in answers),
    }
