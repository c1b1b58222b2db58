from contextlib import ExitStack
from pathlib import Path

import pytest

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import Row, write_rows
from trainer.errors import DataError
from trainer.evaluation.sets import open_sets, seen_queries

PASSAGES = [Passage("p1", "Tea grows here."), Passage("p2", "Rain falls in May.", "Rain")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of six questions about two passages, the second of which has a title."""
    queries = [Query(f"q{k}", f"Question {k}?") for k in range(6)]
    qrels = {f"q{k}": {"p1" if k < 2 else "p2": 1} for k in range(6)}
    data = EvaluationData({"en": PASSAGES}, {"sw": queries}, qrels)
    write_evaluation_set(tmp_path / "tea", data)
    return tmp_path


def row(passage: str, query_id: str) -> Row:
    passage_id = f"id of {passage}" if passage else ""
    return Row("Which?", "Lipi?", "sw", passage_id, passage, query_id)


def seen(folder: Path, *rows: Row) -> frozenset[str]:
    write_rows(folder / "rows.jsonl", rows)
    with ExitStack() as stack:
        sets = open_sets([str(folder / "tea")], stack)
    return seen_queries(sets, [folder / "rows.jsonl"])["tea"]


def test_a_query_is_seen_if_its_passage_is_in_a_row_with_or_without_its_title(folder: Path) -> None:
    assert seen(folder, row("Tea grows here.", "r")) == {"q0", "q1"}
    assert seen(folder, row("Rain falls in May.", "r")) == {"q2", "q3", "q4", "q5"}


def test_rows_without_a_passage_which_a_bridge_trains_on_are_no_passage(folder: Path) -> None:
    assert seen(folder, row("", "r1"), row("Tea grows here.", "r2")) == {"q0", "q1"}


@pytest.mark.parametrize(("count", "kept"), [(0, 6), (3, 3), (4, 3), (6, 6), (9, 6)])
def test_queries_are_thinned_evenly(folder: Path, count: int, kept: int) -> None:
    with ExitStack() as stack:
        [found] = open_sets([str(folder / "tea")], stack, count)

    assert len(found.queries["sw"]) == kept
    assert found.queries["sw"][0].query_id == "q0"


@pytest.mark.parametrize(
    ("card", "kind"),
    [
        ('{"name": "mine", "query_kind": "statements"}', "statements"),
        ('{"name": "mine"}', "questions"),
        ('{"name": "sib200"}', "statements"),  # of an import before there was the field
        ('{"name": "sib200", "query_kind": "questions"}', "questions"),
    ],
)
def test_the_card_says_what_the_queries_are(folder: Path, card: str, kind: str) -> None:
    (folder / "tea/card.json").write_text(card)

    with ExitStack() as stack:
        [found] = open_sets([str(folder / "tea")], stack)

    assert found.query_kind == kind


def test_an_unknown_kind_is_refused_by_file_and_field(folder: Path) -> None:
    (folder / "tea/card.json").write_text('{"name": "mine", "query_kind": "riddles"}')

    with pytest.raises(DataError, match="card.json: `query_kind` is 'riddles': write"):
        open_sets([str(folder / "tea")], ExitStack())
