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
SCORES = np.array([0.9, 0.86, 0.84, 0.82, 0.81, 0.8, 0.79, 0.78, 0.77, 0.76, 0.7], np.float32)


def test_the_best_hit_s_relevance_is_the_logistic_of_its_features() -> None:
    logit = -1 + 5 - 0.0 + 0.5 * math.log1p(20) + 0.25 * math.log1p(60)
    [first, *_] = relevances(SCORES, BACKGROUND, WEIGHTS)
    assert first == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def test_relevance_falls_with_the_rank_and_stays_a_probability() -> None:
    found = relevances(SCORES, BACKGROUND, WEIGHTS)
    assert len(found) == 11
    assert (np.diff(found) <= 0).all() and (found > 0).all() and (found < 1).all()


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
    assert relevances(SCORES, BACKGROUND, WEIGHTS)[:10].tolist() == ten.tolist()


def test_no_hit_has_no_relevance() -> None:
    assert not len(relevances(SCORES[:0], BACKGROUND, WEIGHTS))


def test_equal_scores_have_finite_relevances() -> None:
    same = np.full(10, 0.8, np.float32)
    assert np.isfinite(relevances(same, BACKGROUND, WEIGHTS)).all()
