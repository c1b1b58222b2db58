import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.retrieval.corpus.changes import Change, read_changes
from service.retrieval.corpus.columns import Columns
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import PassageError


def changes_of(path: Path, lines: list[object]) -> list[tuple[str, Change]]:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return list(read_changes([path]))


def test_a_record_puts_a_document_or_deletes_one(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "tea", "year": 1},
        {"id": "b", "delete": True},
        {"_id": "c", "text": "harp", "delete": False},
        {"id": "d", "text": "sun", "delete": None},
        {"id": 7, "text": "ignored", "delete": True},
    ]

    found = changes_of(tmp_path / "c.jsonl", lines)

    assert [change for _, change in found] == [
        Change("a", Passage("a", "tea", metadata={"year": 1})),
        Change("b"),
        Change("c", Passage("c", "harp")),
        Change("d", Passage("d", "sun")),
        Change("7"),
    ]
    assert [origin for origin, _ in found] == [f"{tmp_path}/c.jsonl:{row}" for row in range(1, 6)]


def test_the_columns_are_those_of_the_first_document_not_of_a_deletion(tmp_path: Path) -> None:
    lines = [
        {"docid": "a", "delete": True},
        {"docid": "b", "body": "tea"},
        {"docid": "c", "delete": True},
    ]

    found = [change for _, change in changes_of(tmp_path / "c.jsonl", lines)]

    assert found == [Change("a"), Change("b", Passage("b", "tea")), Change("c")]


def test_parquet_holds_changes_with_a_boolean_column(tmp_path: Path) -> None:
    table = pa.table(
        {"key": ["a", "b"], "text": ["tea", None], "delete": pa.array([None, True], pa.bool_())}
    )
    pq.write_table(table, tmp_path / "c.parquet")

    found = [change for _, change in read_changes([tmp_path], columns=Columns(id="key"))]

    assert found == [Change("a", Passage("a", "tea")), Change("b")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "a", "text": "t", "delete": "yes"}, "c.jsonl:1 has a `delete` that is not true or"),
        ({"delete": True}, r"c.jsonl:1 needs a field `id` \(or `_id`\) with text or a whole numb"),
        ({"id": " ", "delete": True}, "c.jsonl:1 needs a field `id`"),
        ({"id": "a"}, "c.jsonl:1 needs a field `text`"),
    ],
)
def test_an_invalid_change_is_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(PassageError, match=message):
        changes_of(tmp_path / "c.jsonl", [line])
