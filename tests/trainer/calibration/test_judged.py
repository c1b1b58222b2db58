"""Judged rankings of an evaluation set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ignore_progress
from service.retrieval.relevance.fit import JudgedRanking
from trainer.calibration.judged import JudgedCorpus, all_off_topic_questions, off_topic_questions
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import DataError


def judge(
    small_set: EvaluationSet, encoder: Encoder, cache: Path, *languages: str
) -> list[JudgedRanking]:
    corpus = JudgedCorpus(small_set, encoder, cache, ignore_progress)
    return list(corpus.judge(languages))


def test_each_question_is_judged_with_its_passage_and_without_its_article(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    found = judge(small_set, tiny_encoder, tmp_path, "en")
    measured = [each for each in found if each.measured_weight]
    removed = measured[-len(small_set.queries["en"]) :]  # after the answered ones
    assert not any(each.is_answer.any() for each in removed)
    assert all(len(each.scores) == 10 and (np.diff(each.scores) <= 0).all() for each in found)


def test_a_set_s_own_unanswered_questions_take_the_place_of_the_off_topic_ones_and_are_measured(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    found = judge(small_set, tiny_encoder, tmp_path, "de")
    unanswered = found[-5:]
    assert not any(each.is_answer.any() for each in unanswered)
    assert [each.weight for each in unanswered] == [pytest.approx(0.05)] * 5
    assert [each.measured_weight for each in unanswered] == [pytest.approx(0.1)] * 5
    removed = [each for each in found[:-5] if not each.measured_weight]
    assert sum(each.weight for each in removed) == pytest.approx(0.25)


def test_a_set_without_unanswered_questions_is_asked_the_off_topic_ones_for_the_fit_alone(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    off_topic = [
        each
        for each in judge(small_set, tiny_encoder, tmp_path, "en")
        if each.article.startswith("off-topic.")
    ]
    assert len(off_topic) == len(off_topic_questions("en")) == 20
    assert {each.measured_weight for each in off_topic} == {0.0}
    assert sum(each.weight for each in off_topic) == pytest.approx(0.25)


def test_half_of_each_language_s_weight_is_answered_questions(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    found = judge(small_set, tiny_encoder, tmp_path)
    for language in ("en", "de"):
        own = [each for each in found if each.language == language]
        assert sum(each.weight for each in own) == pytest.approx(1)
        assert sum(each.measured_weight for each in own) == pytest.approx(1)


def test_there_are_twenty_off_topic_questions_in_24_languages() -> None:
    assert len(all_off_topic_questions()) == 24
    assert {len(each) for each in all_off_topic_questions().values()} == {20}
    assert off_topic_questions("en")[14].answers == ("Mona Lisa",)
    assert len(off_topic_questions("bem")) == 480  # it has none of its own


def test_a_question_whose_first_hit_holds_the_answer_unjudged_is_left_out(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    before = judge(small_set, tiny_encoder, tmp_path, "en")
    words = [p.text.split()[0] for _, p in read_passages(small_set.corpus_path("en"))]
    queries = tuple(replace(each, answers=tuple(words)) for each in small_set.queries["en"])
    known = replace(small_set, queries={**small_set.queries, "en": queries})
    found = judge(known, tiny_encoder, tmp_path, "en")
    is_right = [each for each in before if each.is_answered]
    assert len(is_right) == len([each for each in found if each.is_answered]) > 0
    assert not [each for each in found if each.measured_weight and not each.is_answered]


def test_a_set_of_few_passages_is_refused(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    path = small_set.corpus_path("en")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(DataError, match="fewer than 20 passages"):
        JudgedCorpus(small_set, tiny_encoder, tmp_path, ignore_progress)
