import itertools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from service.retrieval.corpus.fields import FieldKind
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.table import SCHEMA, PassageTable, PassageTableWriter
from service.retrieval.errors import GenerationError

PASSAGES = [
    Passage("a", "text \U0001f600\nমেটা", "Title", {"page": 1, "tags": ["x", None]}),
    Passage("b", "two"),
    Passage("ñ", "three", "", {"ünï": 0.5}),
]


def written(path: Path, *batches: list[Passage]) -> PassageTable:
    with PassageTableWriter(path) as writer:
        for batch in batches:
            writer.write(batch)
    return PassageTable(path)


def test_passages_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert written(tmp_path / "table", PASSAGES).read(range(3)) == PASSAGES


def test_rows_count_over_batches_in_the_order_asked(tmp_path: Path) -> None:
    table = written(tmp_path / "table", PASSAGES[:1], PASSAGES[1:])

    assert len(table) == 3
    assert table.read([2, 0, 2]) == [PASSAGES[2], PASSAGES[0], PASSAGES[2]]
    assert table.passage_ids([2, 1]) == ["ñ", "b"]


def test_no_rows_give_no_passages(tmp_path: Path) -> None:
    table = written(tmp_path / "table")

    assert len(table) == 0
    assert table.read([]) == []


def test_equal_passages_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / name, PASSAGES)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_text_is_mapped_and_not_on_the_heap(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()

    table = written(tmp_path / "table", [Passage(str(row), "x" * 10_000) for row in range(500)])

    assert len(table) == 500
    assert pa.total_allocated_bytes() - before < 1_000_000


def other_columns(path: Path) -> None:
    with pa.ipc.new_file(str(path), pa.schema([("x", pa.int64())])):
        pass


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is not an Arrow file"),
        (lambda path: path.write_bytes(b"ARROW1\0\0 and no more"), "is not an Arrow file"),
        (lambda path: None, "is not an Arrow file"),
        (other_columns, f"does not have the columns {', '.join(SCHEMA.names)}"),
    ],
    ids=["empty", "garbage", "missing", "columns"],
)
def test_a_file_that_is_not_a_table_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], object], reason: str
) -> None:
    write(tmp_path / "passages.arrow")

    with pytest.raises(GenerationError, match=rf"passages\.arrow {reason}"):
        PassageTable(tmp_path / "passages.arrow")


def test_text_that_is_not_utf_8_is_refused_by_the_check(tmp_path: Path) -> None:
    written(tmp_path / "table", PASSAGES).check()
    content = (tmp_path / "table").read_bytes()
    (tmp_path / "table").write_bytes(content.replace("ñ".encode(), b"\xff\xff", 1))

    with pytest.raises(GenerationError, match="table does not hold passages .*build the index"):
        PassageTable(tmp_path / "table").check()


def test_parts_of_other_tables_have_the_bytes_of_the_passages_themselves(tmp_path: Path) -> None:
    """A list of nulls at the end of a slice once kept the offsets of what it was cut from."""
    fields: dict[str, FieldKind] = {"tags": "strings", "page": "number", "new": "boolean"}
    values = [{}, {"tags": ["a", "é"]}, {"page": 1, "new": True}, {"tags": []}, {"new": False}]
    passages = [
        Passage(f"{row:02}", f"text {row}", metadata=values[row * 7 % 5]) for row in range(12)
    ]
    with PassageTableWriter(tmp_path / "whole", fields) as writer:
        writer.write(passages[:8])
        writer.write(passages[8:])
    whole = PassageTable(tmp_path / "whole", fields).rows
    for start, stop in itertools.combinations(range(13), 2):
        parts = [whole.slice(start, stop - start), whole.slice(0, start)]
        chosen = [*passages[start:stop], *passages[:start]]
        with PassageTableWriter(tmp_path / "parts", fields) as writer:
            writer.write_rows(pa.concat_tables([part for part in parts if len(part)]))
        with PassageTableWriter(tmp_path / "made", fields) as writer:
            writer.write(chosen)

        assert (tmp_path / "parts").read_bytes() == (tmp_path / "made").read_bytes()
