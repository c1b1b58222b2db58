"""The relevance model: pure functions from the scores of a ranking to probabilities.

They compute with plain numbers, which for ten scores takes a fifth of the time of arrays.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Protocol

# The number of scores that a ranking needs; a search ranks as many whatever `top_k` is.
DEPTH = 10
TAIL = slice(5, DEPTH)  # ranks 6 to 10: near the query, seldom an answer
# Gaps are counted on a logarithmic scale, from a tenth of the scale on.
GAPS_PER_SCALE = 10


class HasBackground(Protocol):
    """The scores of unrelated queries in an index, as `Background` records them."""

    @property
    def best(self) -> float:
        """Return the mean of the best score."""

    @property
    def tail(self) -> float | None:
        """Return the mean score of ranks 6 to 10."""


class HasWeights(Protocol):
    """The weights of the logistic functions, as `Calibration` holds them."""

    @property
    def scale(self) -> float:
        """Return the unit of scores."""

    @property
    def best(self) -> list[float]:
        """Return the weights for the best hit."""

    @property
    def other(self) -> list[float]:
        """Return the weights for the hits after it."""

    @property
    def short(self) -> list[float]:
        """Return the weights for rankings with fewer than `DEPTH` scores."""


def tail_of(scores: Sequence[float]) -> float:
    """Return the mean score of ranks 6 to 10."""
    tail = scores[TAIL]
    return sum(tail) / len(tail)


def relevances(
    scores: Sequence[float], background: HasBackground, weights: HasWeights
) -> list[float]:
    """Return the probability of each hit that it answers the query; it falls with the rank.

    Args:
        scores: of one query's ranking, best first.
        background: of the index.
        weights: fitted for the query side.
    """
    if len(scores) < DEPTH or background.tail is None:
        of_ranks = [weights.short] * len(scores)
        features = short_features(scores, background.best, weights.scale)
    else:
        of_ranks = [weights.best, *[weights.other] * (len(scores) - 1)]
        features = full_features(scores, background.best, background.tail, weights.scale)
    logits = (sum(map(mul, own, each)) for own, each in zip(of_ranks, features, strict=True))
    return list(accumulate(map(_logistic, logits), min))


def full_features(
    scores: Sequence[float], best: float, tail: float, scale: float
) -> list[list[float]]:
    """Return the features of each hit, five of them.

    They are a constant, score, tail, and the gaps to rank 1, of the best hit to rank 2, and to the
    tail.

    Args:
        scores: at least `DEPTH`, best first.
        best: of the background.
        tail: of the background.
        scale: the unit of scores.
    """
    first, own_tail = scores[0], tail_of(scores)
    above = (own_tail - tail) / scale
    found: list[list[float]] = []
    for score in scores:
        gap = first - score if found else first - scores[1]
        gaps = _log(gap, scale), _log(score - own_tail, scale)
        found.append([1.0, (score - best) / scale, above, *gaps])
    return found


def short_features(scores: Sequence[float], best: float, scale: float) -> list[list[float]]:
    """Return the features where the background alone decides: constant and score."""
    return [[1.0, (score - best) / scale] for score in scores]


def _logistic(logit: float) -> float:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def _log(gap: float, scale: float) -> float:
    """Return a gap on a logarithmic scale; a negative one counts as none."""
    return math.log1p(GAPS_PER_SCALE * max(gap, 0.0) / scale)
