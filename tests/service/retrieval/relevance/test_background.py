"""The background of an index."""

import json

import numpy as np
import pytest

from service.retrieval.relevance.background import (
    QUESTIONS,
    general_questions,
    measure_background,
)


def test_there_are_four_different_questions_in_each_of_32_languages() -> None:
    by_language = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    assert len(by_language) == 32
    assert {len(questions) for questions in by_language.values()} == {4}
    assert len(set(general_questions())) == 128


def test_a_background_holds_means_and_the_spread_of_the_best_scores() -> None:
    first = np.linspace(0.9, 0.81, 10, dtype=np.float32)
    found = measure_background("q", [first, first - np.float32(0.1)])
    assert found is not None
    assert (found.best, found.spread) == pytest.approx((0.85, 0.05))
    assert found.tail == pytest.approx(0.78)
    assert found.fingerprint == "q"


def test_an_index_of_few_passages_has_no_tail() -> None:
    found = measure_background("q", [np.array([0.5, 0.4], np.float32)])
    assert found is not None and found.tail is None and found.best == 0.5


def test_questions_that_find_nothing_give_no_background() -> None:
    assert measure_background("q", [np.empty(0, np.float32)]) is None
