"""The fit of a calibration."""

import numpy as np
import pytest

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.fit import (
    JudgedRanking,
    fit_calibration,
    fit_logistic,
    held_out_relevances,
)
from service.retrieval.relevance.model import relevances

BACKGROUND = Background(fingerprint="q", best=0.8, spread=0.02, tail=0.78)


def judged(number: int, is_answered: bool, num_scores: int = 10) -> JudgedRanking:
    noise = np.random.default_rng(number).normal(0, 0.01, num_scores)
    base = np.linspace(0.8, 0.77, num_scores)
    base[0] += 0.05 if is_answered else 0.005
    answers = np.zeros(num_scores, bool)
    answers[0] = is_answered
    scores = -np.sort(-(base + noise)).astype(np.float32)
    return JudgedRanking(scores, answers, BACKGROUND, "set", "en" if number % 2 else "de")


JUDGED = [judged(number, number % 3 == 0) for number in range(300)]


def test_newton_s_method_finds_the_maximum_of_the_likelihood() -> None:
    random = np.random.default_rng(0)
    features = np.stack([np.ones(4000), random.normal(3, 2, 4000)], axis=1)
    chances = 1 / (1 + np.exp(-(features @ np.array([-2.0, 0.7]))))
    labels = (random.random(4000) < chances).astype(float)
    found = fit_logistic(features, labels, np.ones(4000))
    assert found == pytest.approx([-2.0, 0.7], abs=0.15)


def test_a_weight_counts_as_so_many_equal_rows() -> None:
    features = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    weighted = fit_logistic(features, labels, np.array([3.0, 3.0, 1.0, 1.0]))
    repeated = fit_logistic(
        features[[0, 0, 0, 1, 1, 1, 2, 3]], labels[[0, 0, 0, 1, 1, 1, 2, 3]], np.ones(8)
    )
    assert weighted == pytest.approx(repeated)


def test_answered_queries_get_a_high_relevance_and_others_a_low_one() -> None:
    fitted = fit_calibration(JUDGED, "q", {"sets": ["set"]})
    found = [relevances(each.scores.tolist(), BACKGROUND, fitted)[0] for each in JUDGED]
    assert np.mean(found[::3]) > 0.8
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.01)
    assert fitted.model_dump()["sets"] == ["set"] and fitted.fingerprint == "q"


def test_short_rankings_alone_fit_a_calibration_by_the_background() -> None:
    fitted = fit_calibration([judged(number, number % 2 == 0, 4) for number in range(100)], "q")
    assert fitted.best == [*fitted.short, 0.0, 0.0, 0.0]


def test_a_fit_is_deterministic() -> None:
    assert fit_calibration(JUDGED, "q") == fit_calibration(JUDGED, "q")


@pytest.mark.parametrize("is_answered", [True, False])
def test_queries_of_one_kind_alone_are_refused(is_answered: bool) -> None:
    with pytest.raises(ValueError, match="both answered and unanswered"):
        fit_calibration([judged(number, is_answered) for number in range(20)], "q")


def test_a_left_out_group_does_not_change_with_its_own_labels() -> None:
    groups = [each.language for each in JUDGED]
    found = held_out_relevances(JUDGED, groups)
    flipped = [
        JudgedRanking(each.scores, ~each.is_answer, BACKGROUND, "set", each.language)
        if each.language == "de"
        else each
        for each in JUDGED
    ]
    is_german = np.array(groups) == "de"
    assert held_out_relevances(flipped, groups)[is_german].tolist() == found[is_german].tolist()
