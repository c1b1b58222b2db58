"""The relevance model."""

import math

import numpy as np
import pytest

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.model import relevances

BACKGROUND = Background(fingerprint="q", best=0.8, spread=0.02, tail=0.78)
WEIGHTS = Calibration(
    fingerprint="q",
    scale=0.02,
    best=[-1.0, 1.0, -0.5, 0.5, 0.25],
    other=[-2.0, 1.0, -0.5, -0.5, 0.25],
    short=[-1.0, 2.0],
)
SCORES = [0.9, 0.86, 0.84, 0.82, 0.81, 0.8, 0.79, 0.78, 0.77, 0.76, 0.7]


def test_the_best_hit_s_relevance_is_the_logistic_of_its_features() -> None:
    logit = -1 + 5 - 0.0 + 0.5 * math.log1p(20) + 0.25 * math.log1p(60)
    [first, *_] = relevances(SCORES, BACKGROUND, WEIGHTS)
    assert first == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def test_relevance_falls_with_the_rank_and_stays_a_probability() -> None:
    found = relevances(SCORES, BACKGROUND, WEIGHTS)
    assert len(found) == 11
    assert found == sorted(found, reverse=True) and 0 < found[-1] < found[0] < 1


def test_the_background_alone_decides_on_fewer_than_ten_hits() -> None:
    found = relevances(SCORES[:3], BACKGROUND, WEIGHTS)
    expected = [1 / (1 + math.exp(1 - 2 * (score - 0.8) / 0.02)) for score in (0.9, 0.86, 0.84)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_background_alone_decides_where_the_index_is_too_small_for_a_tail() -> None:
    small = BACKGROUND.model_copy(update={"tail": None})
    assert relevances(SCORES, small, WEIGHTS)[:3] == pytest.approx(
        relevances(SCORES[:3], BACKGROUND, WEIGHTS)
    )


def test_more_scores_than_ten_change_nothing_of_the_first_ten() -> None:
    ten = relevances(SCORES[:10], BACKGROUND, WEIGHTS)
    assert relevances(SCORES, BACKGROUND, WEIGHTS)[:10] == ten


def test_no_hit_has_no_relevance() -> None:
    assert not len(relevances(SCORES[:0], BACKGROUND, WEIGHTS))


def test_equal_scores_have_finite_relevances() -> None:
    assert all(map(math.isfinite, relevances([0.8] * 10, BACKGROUND, WEIGHTS)))


def test_relevances_are_those_of_the_features_as_matrices() -> None:
    rng = np.random.default_rng(5)
    for count in rng.integers(1, 40, 200):
        scores = np.sort(0.75 + 0.15 * rng.random(count))[::-1]
        x = np.ones((count, 2 if count < 10 else 5))
        x[:, 1] = (scores - BACKGROUND.best) / WEIGHTS.scale
        logits = x[:, :2] @ WEIGHTS.short
        if count >= 10:
            tail = scores[5:10].mean()
            gaps = np.stack([scores[0] - scores, scores - tail], axis=1)
            gaps[0, 0] = scores[0] - scores[1]
            x[:, 2] = (tail - 0.78) / WEIGHTS.scale
            x[:, 3:] = np.log1p(10 * np.maximum(gaps, 0) / WEIGHTS.scale)
            logits = np.append(x[0] @ WEIGHTS.best, x[1:] @ WEIGHTS.other)
        expected = np.minimum.accumulate(1 / (1 + np.exp(-logits)))
        found = relevances(scores.tolist(), BACKGROUND, WEIGHTS)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
