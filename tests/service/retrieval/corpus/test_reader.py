import gzip
import json
import math
import os
import threading
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.retrieval.corpus.columns import Columns
from service.retrieval.corpus.reader import Passage, read_corpus, read_passages
from service.retrieval.errors import PassageError


def passages_of(path: Path) -> list[Passage]:
    return [passage for _, passage in read_passages(path)]


def test_json_lines_are_read_as_passages_with_their_origin(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"id": "a", "title": "T", "text": "one"}\n\n{"id": "b", "text": "two"}\n')

    found = list(read_passages(path))

    assert found == [
        (f"{path}:1", Passage("a", "one", "T")),
        (f"{path}:3", Passage("b", "two", "")),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"_id": "a", "text": "t"}', Passage("a", "t")),
        ('{"id": 7, "text": "t"}', Passage("7", "t")),
        ('{"id": "a", "text": "t", "title": null}', Passage("a", "t")),
        ('{"id": "a", "_id": 5, "text": "t"}', Passage("a", "t", metadata={"_id": 5})),
        (
            '{"id": "a", "text": "t", "page": 3, "tags": ["x", null], "at": {"lat": 0.5}}',
            Passage("a", "t", metadata={"page": 3, "tags": ["x", None], "at": {"lat": 0.5}}),
        ),
        (
            '{"_id": "a", "text": "t", "url": "u", "metadata": {"page": 3}}',
            Passage("a", "t", metadata={"url": "u", "page": 3}),
        ),
        ('\ufeff{"id": "a", "text": "আমি \U0001f600"}', Passage("a", "আমি \U0001f600")),
    ],
    ids=["beir_id", "whole_number", "null_title", "both_ids", "metadata", "nested", "bom"],
)
def test_a_line_is_read_as_a_passage(tmp_path: Path, line: str, expected: Passage) -> None:
    path = tmp_path / "passages.ndjson"
    path.write_text(line + "\n", encoding="utf-8")

    assert passages_of(path) == [expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a", "text": ', "is not valid JSON: Expecting value at column 21: correct it"),
        (b'{"id": "a", "text": "t\tt"}',
         "is not valid JSON: Invalid control character at column 23: correct it"),
        (b'{"id": "a", "text": "caf\xe9"}', "is not UTF-8 (byte 25 of the line): correct the line"),
        (b'{"id": "a", "text": "t", "score": NaN}', "is not valid JSON"),
        (b'{"id": "a", "text": "t", "score": -Infinity}', "is not valid JSON"),
        (b'{"id": "a", "text": "t", "score": 1e999}', "metadata `score`"),
        (b'{"id": "a", "text": "t", "score": NaN}',
         "is not valid JSON: NaN at column 35 is not a JSON value: write null"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"id": "a", "text": "t", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
         "metadata `x` nested deeper than 64 levels"),
        (b'{"id": "a", "text": "t", "x": ' + b'{"y":' * 900 + b"1" + b"}" * 900 + b"}",
         "metadata `x` nested deeper than 64 levels"),
        (b'{"id": "a", "text": "t", "id": "b"}', "valid JSON: an object has the key 'id' twice"),
        (b'{"id": "a", "text": "t", "x": [{"y": 1, "y": 1}]}', "has the key 'y' twice"),
        (b'{"id": "a", "text": "t", "page": 1, "metadata": {"page": 2}}',
         "has two values of `page`, one in `metadata`"),
        (b'{"id": "a", "text": "t", "x": ' + b"9" * 5001 + b"}",
         "is not valid JSON: a whole number has 5,001 digits, of 4,300 at most: write it in "),
        (b'{"id": ' + b"9" * 5001 + b', "text": "t"}', "a whole number has 5,001 digits"),
        (b'{"text": "t"}', "needs a field `id`"),
        (b'{"id": "  ", "text": "t"}', "needs a field `id`"),
        (b'{"id": true, "text": "t"}', "has the id true, which is neither text nor a whole number"),
        (b'{"id": 1e3, "text": "t"}', "has the id 1000.0, which is neither text nor a whole"),
        (b'{"id": -0, "text": "t"}', "has the id -0.0, which is neither text nor a whole number"),
        (b'{"id": "a"}', "needs a field `text` with text, and has `id`: correct the line, or "
            "name the field with --text-field"),
        (b'{"id": "a", "text": 3}', "needs a field `text`"),
        (b'{"id": "a", "text": " \\n"}', "has an empty `text`"),
        (b'{"id": "a", "text": "\\u200b\\u00ad\\u0001"}', "has an empty `text`"),
        (b'{"id": "\\u200b", "text": "t"}', "needs a field `id`"),
        (b'["a", "t"]', "is not a JSON object"),
        (b'{"id": "a", "text": "t", "title": 3}', "has a `title` that is not text"),
        (b'{"id": "a", "text": "\\ud800"}', "holds half a surrogate pair"),
        (b'{"id": "\\udfff", "text": "t"}', "holds half a surrogate pair"),
        (b'{"id": "a\\u0000", "text": "t"}', "holds a NUL character in its id: remove it"),
        (b'{"id": "a", "text": "t\\u0000"}', "holds a NUL character in `text`: remove it"),
        (b'{"id": "a", "text": "t", "title": "\\u0000"}', "holds a NUL character in `title`"),
        (b'{"id": "a", "text": "t", "x": {"\\ud800": 1}}', "holds half a surrogate pair"),
    ],
)  # fmt: skip
def test_an_invalid_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_bytes(b'{"id": "1", "text": "t"}\n' + line + b'\n{"id": "3", "text": "t"}\n')
    errors: list[PassageError] = []

    found = [passage.passage_id for _, passage in read_passages(path, errors.append)]

    assert found == ["1", "3"]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}:2 ")
    assert reason in str(errors[0])


def test_metadata_may_be_64_levels_deep(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"id": "1", "text": "t", "x": ' + "[" * 63 + "1" + "]" * 63 + "}\n")

    assert len(passages_of(path)) == 1


def test_reading_stops_at_the_first_invalid_line_by_default(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"id": "1", "text": "t"}\n{}\n{"id": "3", "text": "t"}\n')
    stream = read_passages(path)

    assert next(stream)[1].passage_id == "1"
    with pytest.raises(PassageError, match=r"passages\.jsonl:2 needs"):
        next(stream)


def test_the_text_of_a_passage_is_not_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"id": "1", "text": "secret", "title": 3}\n{"text": "secret"\n')
    errors: list[PassageError] = []

    list(read_passages(path, errors.append))

    assert len(errors) == 2
    assert not any("secret" in str(error) for error in errors)


def test_a_gzip_file_is_read_as_the_plain_one(tmp_path: Path, passages_file: Path) -> None:
    path = tmp_path / "passages.jsonl.gz"
    path.write_bytes(gzip.compress(passages_file.read_bytes()))

    assert passages_of(path) == passages_of(passages_file)


def damaged_gzip(how: str) -> bytes:
    content = bytearray(
        gzip.compress(b"".join(b'{"id": "%d", "text": "t"}\n' % i for i in range(99)))
    )
    if how == "truncated":
        return bytes(content[:-9])
    if how == "no gzip":
        return b'{"id": "1", "text": "t"}\n'
    content[10 if how == "bad block" else -8] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize("how", ["truncated", "no gzip", "bad block", "bad checksum"])
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "passages.jsonl.gz"
    path.write_bytes(damaged_gzip(how))

    with pytest.raises(
        PassageError, match=r"passages\.jsonl\.gz cannot be read to its end .*: restore"
    ):
        passages_of(path)


def test_a_beir_folder_is_read_by_its_corpus_file(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "T", "text": "t", "metadata": {}}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "q"}\n')

    assert passages_of(tmp_path) == [Passage("d1", "t", "T")]


def test_title_and_text_are_joined_for_the_encoder() -> None:
    assert Passage("a", "text", "Title").encoder_text == "Title text"
    assert Passage("a", "text").encoder_text == "text"


def test_parquet_rows_are_read_as_passages_without_nulls(tmp_path: Path) -> None:
    path = tmp_path / "passages.parquet"
    rows = [
        {"id": 1, "title": None, "text": "one", "day": date(2024, 2, 29), "score": None},
        {"id": 2, "title": "T", "text": "two", "day": None, "score": 0.5},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)

    found = list(read_passages(path))

    assert found == [
        (f"{path}:1", Passage("1", "one", "", {"day": "2024-02-29"})),
        (f"{path}:2", Passage("2", "two", "T", {"score": 0.5})),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes"])
def test_a_value_that_json_cannot_hold_is_refused_with_its_field(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "passages.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": "a", "text": "t", "extra": value}]), path)

    with pytest.raises(PassageError, match=r"passages\.parquet:1 has metadata `extra`"):
        passages_of(path)


def test_a_null_text_in_parquet_is_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "passages.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"id": "a", "text": None}, {"id": "b", "text": "t"}]), path
    )
    errors: list[PassageError] = []

    found = [passage.passage_id for _, passage in read_passages(path, errors.append)]

    assert found == ["b"]
    assert [str(error) for error in errors] == [
        f"{path}:1 needs a field `text` with text, and has `id`: correct the line, or name the "
        "field with --text-field"
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("passages.json", b"[]", "is not .jsonl, .ndjson, .csv, .tsv (each also .gz or .zst) or"),
        ("passages.gz", b"", "is not .jsonl"),
        ("passages.parquet", b"PAR1 not at all", "is not readable as Parquet"),
        ("missing.jsonl", None, "does not exist"),
        ("folder", None, "folder holds no file of passages"),
        ("outer", None, "outer holds no file of passages"),
    ],
)
def test_an_unusable_file_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "outer" / "corpus.jsonl").mkdir(parents=True)
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(PassageError) as caught:
        passages_of(tmp_path / name)

    assert name in str(caught.value)
    assert reason in str(caught.value)


def test_metadata_survives_as_json(passages_file: Path) -> None:
    first = passages_of(passages_file)[0]

    assert json.loads(json.dumps(first.metadata)) == {"page": 1}


def test_a_corpus_of_many_files_is_read_in_order_each_with_its_own_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("docid,headline,body\n1,Tea,Green tea\n")
    pq.write_table(pa.table({"_id": ["2"], "text": ["two"]}), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"key": {"n": 3}, "contents": "three", "name": "Three"}\n')
    told = []

    found = read_corpus(
        [tmp_path / "b.parquet", tmp_path],
        columns=Columns(id=""),
        on_columns=lambda file, columns: told.append((file.name, columns)),
        on_invalid=lambda error: None,
    )

    assert [(passage.passage_id, passage.title, passage.text) for _, passage in found] == [
        ("2", "", "two"),
        ("1", "Tea", "Green tea"),
    ]
    assert told == [
        ("b.parquet", Columns("_id", "text", "title")),
        ("a.csv", Columns("docid", "body", "headline")),
        ("c.jsonl", Columns("id", "contents", "name")),
    ]


def test_named_columns_may_be_nested_and_leave_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 9, "key": {"n": 3, "page": 1}, "doc": {"text": "three"}}\n')

    [(_, passage)] = read_corpus([path], columns=Columns(id="key.n", text="doc.text"))

    assert passage == Passage("3", "three", metadata={"id": 9, "key": {"page": 1}, "doc": {}})


def test_a_missing_column_is_named_with_the_option_that_names_another(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"key": 3, "doc": "three"}\n')

    with pytest.raises(PassageError, match=r"a.jsonl:1 needs a field `id` .* --id-field"):
        list(read_corpus([path]))
    with pytest.raises(PassageError, match=r"a.jsonl:1 needs a field `text` .* --text-field"):
        list(read_corpus([path], columns=Columns(id="key")))
    with pytest.raises(PassageError, match=r"needs a field `nokey` with text"):
        list(read_corpus([path], columns=Columns(id="nokey", text="doc")))


def test_json_lines_come_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"id": "a", "text": "one"}\n',))
    writer.start()

    found = list(read_corpus([pipe]))
    writer.join()

    assert found == [(f"{pipe}:1", Passage("a", "one"))]


def test_a_truncated_zst_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(b'{"id": "a", "text": "one"}\n')
    assert passages_of(path) == [Passage("a", "one")]
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(PassageError, match=r"a.jsonl.zst cannot be read to its end"):
        passages_of(path)
