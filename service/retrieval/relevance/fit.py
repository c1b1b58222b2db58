"""Fits a calibration to judged rankings by weighted logistic regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.measures import Features
from service.retrieval.relevance.model import DEPTH, full_features, short_features

RIDGE = 1e-3
STEPS = 50
FOLDS = 5
TOLERANCE = 1e-9
DIGITS = 6


@dataclass(frozen=True, slots=True)
class JudgedRanking:
    """The scores of one query's best passages, and which of these answer it.

    `corpus`, `language` and `article` name the query's groups; queries of one article are not
    independent observations. `weight` is its share in the fit, `measured_weight` that in measures.
    """

    scores: NDArray[np.float32]  # [N], best first, up to `DEPTH`
    is_answer: NDArray[np.bool_]  # [N]
    background: Background
    corpus: str = ""
    language: str = ""
    article: str = ""
    weight: float = 1.0
    measured_weight: float = 1.0

    @property
    def is_answered(self) -> bool:
        """Return whether the best hit answers the query."""
        return bool(self.is_answer[:1].any())

    @property
    def is_full(self) -> bool:
        """Return whether there are enough scores for gaps and tail."""
        return len(self.scores) >= DEPTH and self.background.tail is not None

    def best(self, scale: float) -> Features:
        """Return the features of the best hit of a full ranking, [1, 5]."""
        return self._full(scale)[:1]

    def other(self, scale: float) -> Features:
        """Return the features of the other hits of a full ranking, [N - 1, 5]."""
        return self._full(scale)[1:]

    def short(self, scale: float) -> Features:
        """Return the features of the best hit by the background alone, [1, 2]."""
        return np.array(short_features(self.scores[:1].tolist(), self.background.best, scale))

    def _full(self, scale: float) -> Features:
        best, tail = self.background.best, self.background.tail or 0.0
        return np.array(full_features(self.scores.tolist(), best, tail, scale))


def fit_calibration(
    judged: Sequence[JudgedRanking], fingerprint: str, facts: Mapping[str, Any] | None = None
) -> Calibration:
    """Fit the weights to judged rankings; facts are kept beside them.

    Args:
        judged: rankings of answered and unanswered queries.
        fingerprint: of the query side that encoded the queries.
        facts: what the calibration was fitted on.

    Raises:
        ValueError: all best hits answer their query, or none does.
    """
    found = [each for each in judged if len(each.scores)]
    if len({each.is_answered for each in found}) < 2:
        raise ValueError("both answered and unanswered queries are needed")
    scale = scale_of(found)
    full = [each for each in found if each.is_full]
    short = _fit(
        [each.short(scale) for each in found], [each.is_answer[:1] for each in found], found
    )
    is_mixed = len({each.is_answered for each in full}) == 2
    best = [each.best(scale) for each in full], [each.is_answer[:1] for each in full]
    other = [each.other(scale) for each in full], [each.is_answer[1:] for each in full]
    return Calibration(
        fingerprint=fingerprint,
        scale=scale,
        best=_fit(*best, full) if is_mixed else [*short, 0.0, 0.0, 0.0],
        other=_fit(*other, full) if is_mixed else [*short, 0.0, 0.0, 0.0],
        short=short,
        **(facts or {}),
    )


def held_out_relevances(judged: Sequence[JudgedRanking], groups: Sequence[str]) -> Features:
    """Return the relevance of each best hit, fitted without the group of its query.

    Args:
        judged: rankings with at least one hit.
        groups: of the rankings; if there is one group, fifths of it take the place of groups.
    """
    if len(set(groups)) == 1:
        groups = [str(position % FOLDS) for position in range(len(judged))]
    scale = scale_of(judged)
    is_full = all(each.is_full for each in judged)
    features = np.concatenate(
        [each.best(scale) if is_full else each.short(scale) for each in judged]
    )
    labels = np.array([float(each.is_answered) for each in judged])
    weights = np.array([each.weight for each in judged])
    found, group = np.empty(len(judged)), np.array(groups)
    for name in set(groups):
        is_out = group == name
        fitted = fit_logistic(features[~is_out], labels[~is_out], weights[~is_out])
        found[is_out] = _logistic(features[is_out] @ fitted)
    return found


def scale_of(judged: Sequence[JudgedRanking]) -> float:
    """Return the mean spread of the backgrounds; 1 if there is none."""
    spreads = {(each.corpus, each.background.spread) for each in judged}
    known = [spread for _, spread in sorted(spreads) if spread > 0]
    return round(float(np.mean(known)), DIGITS) if known else 1.0


def _fit(
    features: Sequence[Features],
    labels: Sequence[NDArray[np.bool_]],
    judged: Sequence[JudgedRanking],
) -> list[float]:
    weights = np.concatenate(
        [np.full(len(label), each.weight) for label, each in zip(labels, judged, strict=True)]
    )
    found = fit_logistic(
        np.concatenate(list(features)), np.concatenate(list(labels)).astype(float), weights
    )
    return [round(float(weight), DIGITS) for weight in found]


def fit_logistic(features: Features, labels: Features, weights: Features) -> Features:
    """Return the weights of a logistic regression, by Newton's method with a small ridge.

    Args:
        features: [N, F]; the first one is the constant 1.
        labels: 0 or 1, [N].
        weights: of the rows, [N].

    Source: McCullagh and Nelder 1989, section 4.4 (iteratively reweighted least squares).
    """
    means, spreads = features.mean(axis=0), features.std(axis=0)
    means[0], spreads[spreads < TOLERANCE] = 0.0, 1.0
    scaled = (features - means) / spreads
    share = weights / weights.sum()
    ridge = RIDGE * np.eye(scaled.shape[1])
    ridge[0, 0] = TOLERANCE  # the constant is free; this keeps the matrix regular
    found = np.zeros(scaled.shape[1])
    for _ in range(STEPS):
        expected = _logistic(scaled @ found)
        gradient = scaled.T @ (share * (expected - labels)) + ridge @ found
        curvature = (scaled * (share * expected * (1 - expected))[:, None]).T @ scaled + ridge
        step = np.linalg.solve(curvature, gradient)
        found -= step
        if np.abs(step).max() < TOLERANCE:
            break
    result: Features = found / spreads
    result[0] = found[0] - (found[1:] * means[1:] / spreads[1:]).sum()
    return result


def _logistic(logits: Features) -> Features:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
