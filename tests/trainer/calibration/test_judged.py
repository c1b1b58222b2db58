"""Judged rankings of an evaluation set."""

from pathlib import Path

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ignore_progress
from service.retrieval.relevance.fit import JudgedRanking
from trainer.calibration.judged import JudgedCorpus
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
    queries = small_set.queries["en"]
    removed = [each for each in found if not each.is_answer.any()][-len(queries) :]
    assert len(removed) == len(queries)
    assert all(len(each.scores) == 10 and (np.diff(each.scores) <= 0).all() for each in found)


def test_a_set_s_own_unanswered_questions_take_the_place_of_those_without_an_article(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    found = judge(small_set, tiny_encoder, tmp_path, "de")
    unanswered = found[-5:]
    assert not any(each.is_answer.any() for each in unanswered)
    assert [each.weight for each in unanswered] == [1 / 5] * 5


def test_answered_and_unanswered_questions_weigh_the_same_in_each_language(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    found = judge(small_set, tiny_encoder, tmp_path)
    for language in ("en", "de"):
        total = sum(each.weight for each in found if each.language == language)
        assert total == pytest.approx(2.0)


def test_no_passage_of_the_gold_s_article_is_left_for_an_unanswered_question(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    corpus = JudgedCorpus(small_set, tiny_encoder, tmp_path, ignore_progress)
    assert corpus._articles.related({6}) == {6, 7}
    assert corpus._articles.is_same(7, [6]) and not corpus._articles.is_same(8, [6])


def test_a_set_of_few_passages_is_refused(
    small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    path = small_set.corpus_path("en")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(DataError, match="fewer than 20 passages"):
        JudgedCorpus(small_set, tiny_encoder, tmp_path, ignore_progress)
