"""The relevance model: pure functions from the scores of a ranking to probabilities."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Features = NDArray[np.float64]
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


def tail_of(scores: Scores) -> float:
    """Return the mean score of ranks 6 to 10."""
    return float(scores[TAIL].mean(dtype=np.float64))


def relevances(scores: Scores, background: HasBackground, weights: HasWeights) -> Features:
    """Return the probability of each hit that it answers the query; it falls with the rank.

    Args:
        scores: of one query's ranking, best first, [N].
        background: of the index.
        weights: fitted for the query side.
    """
    if not len(scores):
        return np.empty(0)
    if len(scores) < DEPTH or background.tail is None:
        logits = short_features(scores, background.best, weights.scale) @ np.array(weights.short)
    else:
        best = best_features(scores, background.best, background.tail, weights.scale)
        other = other_features(scores, background.best, background.tail, weights.scale)
        logits = np.append(best @ np.array(weights.best), other @ np.array(weights.other))
    return np.minimum.accumulate(logistic(logits))


def best_features(scores: Scores, best: float, tail: float, scale: float) -> Features:
    """Return the features of the best hit, [1, 5]: constant, score, tail, gap to rank 2 and tail.

    Args:
        scores: at least `DEPTH`, best first, [N].
        best: of the background.
        tail: of the background.
        scale: the unit of scores.
    """
    first, own_tail = float(scores[0]), tail_of(scores)
    gaps = np.array([first - float(scores[1]), first - own_tail])
    return np.array([[1.0, (first - best) / scale, (own_tail - tail) / scale, *_log(gaps, scale)]])


def other_features(scores: Scores, best: float, tail: float, scale: float) -> Features:
    """Return the features of the hits after the best, [N - 1, 5].

    They are a constant, score, tail, and the gaps to rank 1 and to the tail.
    """
    rest, own_tail = scores[1:].astype(np.float64), tail_of(scores)
    return np.stack(
        [
            np.ones(len(rest)),
            (rest - best) / scale,
            np.full(len(rest), (own_tail - tail) / scale),
            _log(float(scores[0]) - rest, scale),
            _log(rest - own_tail, scale),
        ],
        axis=1,
    )


def short_features(scores: Scores, best: float, scale: float) -> Features:
    """Return the features where the background alone decides, [N, 2]: constant and score."""
    own = (scores.astype(np.float64) - best) / scale
    return np.stack([np.ones(len(own)), own], axis=1)


def logistic(logits: Features) -> Features:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def _log(gaps: Features, scale: float) -> Features:
    """Return gaps on a logarithmic scale; negative ones count as none."""
    result: Features = np.log1p(GAPS_PER_SCALE * np.maximum(gaps, 0.0) / scale)
    return result
