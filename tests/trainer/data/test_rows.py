import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data.rows import MAX_LINE_BYTES, Row, read_rows, write_rows
from trainer.errors import DataError, OutputError

ROW = Row(
    query="Where does tea grow?",
    translated_query="Chai hukua wapi?",
    language="sw",
    passage_id="tea.1",
    positive="Tea grows on hills.",
    query_id="q1",
    hard_negatives=("Salt is mined.", "Rice needs water."),
    hard_negative_queries=("Chumvi hutoka wapi?", "Mchele unahitaji nini?"),
    hard_negative_ids=("salt.1", "rice.1"),
)


def record(**changes: object) -> dict[str, Any]:
    return {**dataclasses.asdict(ROW), **changes}


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records))
    return path


def rows_of(path: Path) -> list[Row]:
    return [row for _, row in read_rows(path)]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    plain = dataclasses.replace(
        ROW, query_id="q2", hard_negatives=(), hard_negative_queries=(), hard_negative_ids=()
    )

    assert write_rows(tmp_path / "new" / "rows.jsonl", [ROW, plain]) == 2

    assert rows_of(tmp_path / "new" / "rows.jsonl") == [ROW, plain]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows.jsonl"]


def test_a_group_is_kept_and_defaults_to_the_passage(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    write_rows(path, [ROW, dataclasses.replace(ROW, group_id="tea")])

    assert [row.group_id for row in rows_of(path)] == ["tea.1", "tea"]
    assert path.read_text().count("group_id") == 1


def test_rows_of_a_bridge_keep_their_weight_and_may_lack_a_passage(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    light = dataclasses.replace(ROW, cross_weight=0.5)
    pair = Row("Where is salt?", "Chumvi kiko wapi?", "sw", "", "", "q3")

    write_rows(path, [ROW, light, pair])

    assert [row for _, row in read_rows(path, is_bridge=True)] == [ROW, light, pair]
    assert [json.loads(line).get("cross_weight") for line in path.read_text().splitlines()] == [
        *(None, 0.5, None)
    ]
    with pytest.raises(DataError, match=r"rows.jsonl:2 has a `cross_weight`: only the frozen"):
        rows_of(path)


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Any:
        yield ROW
        raise DataError("bad line")

    with pytest.raises(DataError, match="bad line"):
        write_rows(tmp_path / "rows.jsonl", rows())

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"file/rows\.jsonl cannot be written"):
        write_rows(tmp_path / "file" / "rows.jsonl", [ROW])


def test_each_row_has_its_line_number_with_blank_lines_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(record()) + "\n\n" + json.dumps(record(query_id="q2")) + "\n")

    assert [origin for origin, _ in read_rows(path)] == [f"{path}:2", f"{path}:4"]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(record()).encode()))

    assert rows_of(path) == [ROW]


@pytest.mark.parametrize(
    ("written", "language"), [("swa", "sw"), ("arb_Arab", "ar"), ("zho-CN", "zh"), ("bem", "bem")]
)
def test_a_languages_code_is_made_canonical(tmp_path: Path, written: str, language: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", record(language=written))

    assert rows_of(path)[0].language == language


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query": None}, "lacks the role `query`"),
        ({"translated_query": None}, "lacks the role `translated_query`"),
        ({"passage_id": None}, "lacks the role `passage_id`"),
        ({"positive": "  "}, "has an empty `positive`"),
        ({"query": 5}, "has `query` that is not text"),
        ({"query": "\ud800"}, "has half a surrogate pair in `query`"),
        ({"language": "klingon"}, "has an unknown language: 'klingon' is not a language"),
        ({"language": "xx"}, "has an unknown language: 'xx' is not a language"),
        ({"hard_negatives": "Salt."}, "has `hard_negatives` that is not a list of texts"),
        ({"hard_negatives": ["Salt.", ""]}, "has an empty `hard_negatives[1]`"),
        (
            {"hard_negative_queries": ["Chumvi?"]},
            "has 2 `hard_negatives` and 1 `hard_negative_queries`",
        ),
        ({"hard_negative_ids": ["1", "2", "3"]}, "has 2 `hard_negatives` and 3"),
        (
            {"hard_negatives": ["Salt.", ROW.positive]},
            "has its positive among its `hard_negatives`",
        ),
        ({"hard_negative_ids": ["salt.1", "tea.1"]}, "has its positive among"),
        ({"hard_negative_queries": ["?", ROW.translated_query]}, "has its own query among"),
        ({"hard_negative": ["Salt."]}, "has the unknown field 'hard_negative'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(record()) + "\n" + json.dumps(record(**changes)) + "\n")

    with pytest.raises(DataError) as error:
        rows_of(path)
    assert str(error.value).startswith(f"{path}:2 {reason}")


def test_texts_are_never_in_an_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", record(hard_negatives=[ROW.positive, "Salt."]))

    with pytest.raises(DataError) as error:
        rows_of(path)
    assert ROW.positive not in str(error.value)


def test_one_passage_id_with_two_texts_is_refused_with_both_places(tmp_path: Path) -> None:
    changed = record(passage_id="salt.1", positive="Salt is made.", hard_negative_ids=["a", "b"])
    path = write_lines(tmp_path / "rows.jsonl", record(), changed)

    with pytest.raises(DataError, match=rf":2 gives the passage 'salt.1' .* than {path}:1"):
        rows_of(path)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)

    with pytest.raises(DataError, match=r"rows\.jsonl holds no rows"):
        rows_of(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl does not exist"):
        rows_of(tmp_path / "rows.jsonl")


def test_a_line_of_five_megabytes_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", record(), record(query="a" * 5_000_000))

    with pytest.raises(DataError, match=r"rows\.jsonl:2 is longer than 1,048,576 bytes"):
        rows_of(path)
    assert MAX_LINE_BYTES == 2**20


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_line_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.jsonl"
    line = json.dumps(record(query="Où pousse le thé ?"), ensure_ascii=False) + "\n"
    path.write_bytes(json.dumps(record()).encode() + b"\n" + line.encode(encoding))

    with pytest.raises(DataError, match=r"rows\.jsonl:2 is not UTF-8 \(byte \d+ of the line\)"):
        rows_of(path)


@pytest.mark.parametrize("line", ['{"query": "a"', "[1, 2]", '{"query": NaN}', '"text"'])
def test_a_line_that_is_not_a_json_object_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)

    with pytest.raises(DataError, match=r"rows\.jsonl:1 is not"):
        rows_of(path)
