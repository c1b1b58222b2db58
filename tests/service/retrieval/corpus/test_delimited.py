import gzip
from pathlib import Path

import pytest

from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.reader import Passage, read_corpus
from service.retrieval.errors import PassageError

FIELDS = parse_fields(["year:number", "open:boolean", "tags:strings", "zip:string", "day:date"])


def test_rows_are_read_as_csv_has_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,text,title\r\n1,"Tea, ""green""\nand black",T\r\n\r\n2,caf\xc3\xa9,\r\n'
    )

    assert list(read_corpus([path])) == [
        (f"{path}:2", Passage("1", 'Tea, "green"\nand black', "T")),
        (f"{path}:5", Passage("2", "caf\u00e9", "")),
    ]


def test_a_tsv_file_is_read_by_tabs_and_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"id\ttext\n1\ta, b\n"))

    assert list(read_corpus([path])) == [(f"{path}:2", Passage("1", "a, b"))]


def test_declared_fields_are_read_by_their_kind_and_others_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "id,text,year,open,tags,zip,day,other\n"
        '007,t,1999,TRUE,"[""x"", ""y""]",01067,2024-02-29,12\n'
        "2,t,,,,,,\n"
        "3,t,late,maybe,x,1,1,1\n"
    )

    first, second, third = (passage for _, passage in read_corpus([path], fields=FIELDS))

    assert first.passage_id == "007"
    assert first.metadata == {
        "year": 1999, "open": True, "tags": ["x", "y"], "zip": "01067", "day": "2024-02-29",
        "other": "12",
    }  # fmt: skip
    assert second.metadata == {}
    assert (third.metadata["year"], third.metadata["open"]) == ("late", "maybe")


def test_a_cell_may_hold_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,text\n1,{'word ' * 100_000}\n")

    [(_, passage)] = read_corpus([path])

    assert len(passage.text) == 500_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a.csv has no header"),
        (b"id;text\n1;t\n", "a.csv has one column, 'id;text': separate columns by commas"),
        (b"id,text,text\n", "a.csv has two columns `text`"),
        (
            b'id,text\n1,ok\n2,"open\n',
            "(unexpected end of data): close the quote in or before this row",
        ),
        (b'id,text\n1,"a"b\n', "a.csv:2 is not valid CSV"),
        ("id,text\n1,t\n".encode("utf-16"), "a.csv:1 is not UTF-8: save the file as UTF-8"),
    ],
)
def test_a_file_that_is_no_csv_is_refused_with_the_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)

    with pytest.raises(PassageError) as caught:
        list(read_corpus([path]))

    assert reason in str(caught.value)


def test_a_bad_row_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,a,b\n2,caf\xe9\n3\n4,ok\n")
    errors: list[str] = []

    found = read_corpus([path], lambda error: errors.append(str(error)))

    assert [passage.passage_id for _, passage in found] == ["4"]
    assert [error.partition(f"{path}:")[2].partition(":")[0] for error in errors] == [
        "2 has 3 cells, and the header 2",
        "3 is not UTF-8",
        "4 needs a field `text` with text, and has `id`",
    ]
