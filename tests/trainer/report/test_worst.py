import json
from pathlib import Path

import pytest

from trainer.data.evaluation_set import EvaluationSet, Query
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task
from trainer.report.worst import CHARACTERS, NUM_WORST, worst_content

NUM_QUERIES = 15


@pytest.fixture
def tea(tmp_path: Path) -> EvaluationSet:
    """A set of English passages and Swahili questions."""
    passages = [
        {"id": "p0", "title": "Tea", "text": "Tea grows. " * 30},
        {"id": "p1", "title": "", "text": "Salt."},
    ]
    lines = "".join(json.dumps(passage) + "\n" for passage in passages)
    (tmp_path / "corpus.jsonl").write_text(lines)
    queries = tuple(Query(f"q{number:02}", f"Swali {number}?") for number in range(NUM_QUERIES))
    return EvaluationSet("tea", tmp_path, {"sw": queries}, {"en": frozenset(["p0", "p1"])}, {})


def evaluation(values: dict[str, float], direction: str = "L-en") -> Evaluation:
    first = {query: "p0" if number % 2 == 0 else "p1" for number, query in enumerate(values)}
    task = Task("tea", direction, "sw", "sw", ("en",))
    result = Result(task, dict.fromkeys(values, "a"), {"ndcg@10": values}, first)
    passages = {"tea": {"en": 2}}
    return Evaluation(
        "tiny", "f" * 64, "p" * 64, 64, "cpu", "torch-fp32", None, passages, (result,)
    )


def test_the_ten_worst_questions_of_a_language_come_with_what_came_first(
    tea: EvaluationSet,
) -> None:
    values = {f"q{number:02}": (number * 7 % NUM_QUERIES) / 20 for number in range(NUM_QUERIES)}

    (found,) = worst_content(evaluation(values), [tea])

    assert (found["set"], found["language"]) == ("tea", "sw")
    ids = [question["query_id"] for question in found["questions"]]
    assert ids == sorted(values, key=lambda query: (values[query], query))[:NUM_WORST]
    by_id = {question["query_id"]: question for question in found["questions"]}
    assert by_id["q00"]["query"] == "Swali 0?"
    assert by_id["q00"]["first"].startswith("Tea: Tea grows.")
    assert by_id["q00"]["first"].endswith("…")
    assert len(by_id["q00"]["first"]) <= CHARACTERS
    assert by_id["q13"]["first"] == "Salt."


def test_a_question_that_was_answered_perfectly_is_none_of_the_worst(tea: EvaluationSet) -> None:
    (found,) = worst_content(evaluation({"q00": 1.0, "q01": 0.5}), [tea])

    assert [question["query_id"] for question in found["questions"]] == ["q01"]
    assert worst_content(evaluation({"q00": 1.0}), [tea]) == []


def test_only_english_passages_are_shown(tea: EvaluationSet) -> None:
    assert worst_content(evaluation({"q00": 0.0}, direction="L-L"), [tea]) == []
