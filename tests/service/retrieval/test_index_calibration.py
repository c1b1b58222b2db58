"""The calibration of an index by questions of its own."""

import json
from pathlib import Path

import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.index_calibration import (
    Question,
    QuestionsError,
    calibrate_index,
    read_questions,
)
from service.retrieval.searcher import Searcher
from tests.conftest import PASSAGES


def questions() -> list[dict[str, object]]:
    """Return 120 answered questions, the beginnings of passages, and 120 unanswered ones."""
    answered = [
        {"query": f"{passage['title']} {passage['text']}"[: 20 + number], "language": "en",
         "passage_ids": [passage["id"]]}
        for passage in PASSAGES
        for number in range(10)
    ]  # fmt: skip
    others = [{"query": f"qx {n} zz {n * n}", "passage_ids": []} for n in range(120)]
    return [*answered, *others]


def write(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def searcher(tiny_encoder: Encoder, tiny_index: Path) -> Searcher:
    return Searcher(tiny_encoder, open_current(tiny_index))


def test_a_calibration_separates_answered_questions_from_others(
    searcher: Searcher, tmp_path: Path
) -> None:
    asked = read_questions(write(tmp_path / "q.jsonl", questions()))
    found = calibrate_index(searcher, asked)
    assert found.calibration.fingerprint == searcher.encoder.fingerprint
    assert found.measured["questions"] == 240
    assert found.measured["auroc"] > 0.6
    assert found.calibration.model_dump()["measured"] == found.measured


def test_a_calibration_is_the_same_again(searcher: Searcher, tmp_path: Path) -> None:
    asked = read_questions(write(tmp_path / "q.jsonl", questions()))
    assert calibrate_index(searcher, asked) == calibrate_index(searcher, asked)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (questions()[:199], "has 199 questions"),
        (questions()[:120] * 2, "240 of them with"),
        ([{"query": "a"}], "q.jsonl:1: `passage_ids` is missing"),
        ([{"query": " ", "passage_ids": []}], "q.jsonl:1: `query` is blank"),
        ([{"query": "a", "passage_ids": "b"}], "q.jsonl:1: `passage_ids` is not a list"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, records: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(QuestionsError, match=words):
        read_questions(write(tmp_path / "q.jsonl", records))


def test_an_unknown_passage_is_named(searcher: Searcher) -> None:
    with pytest.raises(QuestionsError, match='question 1: the index has no passage "mars.1"'):
        calibrate_index(searcher, [Question(query="a", passage_ids=["mars.1"])])


def test_questions_that_are_never_answered_by_the_best_hit_are_refused(searcher: Searcher) -> None:
    with pytest.raises(QuestionsError, match="check their `passage_ids`"):
        calibrate_index(searcher, [Question(query="a", passage_ids=[])] * 3)


def test_a_missing_file_of_questions_is_told(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match=r"q.jsonl does not exist: correct the path"):
        read_questions(tmp_path / "q.jsonl")
