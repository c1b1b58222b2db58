"""The measures of a calibration by corpus and language."""

import numpy as np
import pytest

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.fit import JudgedRanking
from trainer.calibration.measured import measures_by_group

BACKGROUND = Background(fingerprint="q", best=0.8, spread=0.02)


def judged(number: int, corpus: str, measured_weight: float = 1.0) -> JudgedRanking:
    return JudgedRanking(
        np.array([0.9], np.float32),
        np.array([number % 4 == 0]),
        BACKGROUND,
        corpus,
        "de" if number % 2 else "en",
        f"a{number // 8}",
        measured_weight=measured_weight,
    )


JUDGED = [judged(number, corpus) for corpus in ("one", "two") for number in range(80)]


def test_each_corpus_and_language_is_measured_and_all_together() -> None:
    found = measures_by_group(JUDGED, np.full(160, 0.25))
    assert {name: set(values) for name, values in found.items() if name != "all"} == {
        "one": {"all", "de", "en"},
        "two": {"all", "de", "en"},
    }
    assert found["all"]["queries"] == 160 and found["all"]["ece"] == 0.0
    assert found["one"]["en"]["ece"] == pytest.approx(0.25)  # a half of them is answered
    assert found["one"]["de"]["auroc"] is None  # none is


def test_rankings_that_only_the_fit_uses_are_not_measured() -> None:
    others = [judged(number, "one", measured_weight=0.0) for number in range(40)]
    relevances = np.concatenate([np.full(160, 0.25), np.ones(40)])
    expected = measures_by_group(JUDGED, np.full(160, 0.25))
    assert measures_by_group([*JUDGED, *others], relevances) == expected


def test_the_interval_of_the_error_is_that_of_whole_articles() -> None:
    assert measures_by_group(JUDGED, np.full(160, 0.25))["all"]["ece_interval"] == [0.0, 0.0]
    alike = [each for each in JUDGED if each.language == "en"]
    low, high = measures_by_group(alike, np.full(80, 0.25))["all"]["ece_interval"]
    assert low == high == pytest.approx(0.25)  # each article has the same share
    random = np.random.default_rng(0).random(160)
    low, high = measures_by_group(JUDGED, random)["all"]["ece_interval"]
    assert low < high
    assert measures_by_group(JUDGED, random)["all"]["ece_interval"] == [low, high]
