from dataclasses import replace

import pytest

from service.retrieval.corpus.reader import Passage
from tests.support.training_rows import ROWS
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import Row
from trainer.datasets.decontamination import decontaminate, sentence_hashes

PASSAGE = "Rain fell all day on the northern hills. It stopped! The river rose by two whole meters."
QUESTION = "By how many meters did the river rise?"
GERMAN = "Um wie viele Meter stieg der Fluss an?"


@pytest.mark.parametrize(
    ("changes", "is_clean"),
    [
        ({}, True),
        ({"query": "rain fell all day on the Northern hills"}, False),
        ({"positive": "Before it: The river rose by two whole meters. After it."}, True),
        ({"positive": "Before it. The river  rose by two whole meters. After it."}, False),
        ({"translated_query": GERMAN}, False),
        ({"query": QUESTION}, False),
        ({"query": "It stopped!"}, True),  # short sentences are in many texts
    ],
)
def test_a_row_with_a_sentence_of_an_evaluation_set_is_found(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, str], is_clean: bool
) -> None:
    folder = tmp_path_factory.mktemp("set") / "held"
    queries = {"en": [Query("q", QUESTION)], "de": [Query("q", GERMAN)]}
    write_evaluation_set(
        folder, EvaluationData({"en": [Passage("p", PASSAGE)]}, queries, {"q": {"p": 1}})
    )
    row: Row = replace(ROWS[0], **changes)  # type: ignore[arg-type]

    rows, found = decontaminate([row], [read_evaluation_set(folder)])

    assert rows == ([row] if is_clean else [])
    assert found == ({} if is_clean else {"sentence in held": 1})


def test_sentences_end_at_the_marks_of_other_scripts() -> None:
    chinese = "今天下了一整天的雨，北方的山上到处都是积水，河水上涨了两米之多。学校明天不上课。"
    first = chinese.split("。")[0]

    assert sentence_hashes(first) < sentence_hashes(chinese)
