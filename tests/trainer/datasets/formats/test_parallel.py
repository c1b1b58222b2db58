import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data.rows import Row
from trainer.datasets.formats.parallel import import_parallel
from trainer.errors import DataError

NUMBERS = range(1, 6)
# The reference's thirteen columns, in its order.
RECORD = {
    "en_question": "Tea?",
    "paragraphs": "Tea grows.",
    **{f"neg_{number}": f"Passage {number}." for number in NUMBERS},
    "lang_question": "Chai?",
    **{f"neg_query_{number}": f"Swali {number}?" for number in NUMBERS},
}


def check(row: Row) -> None:
    assert (row.query, row.translated_query, row.positive) == ("Tea?", "Chai?", "Tea grows.")
    assert row.language == "sw"
    assert row.hard_negatives == tuple(f"Passage {number}." for number in NUMBERS)
    assert row.hard_negative_queries == tuple(f"Swali {number}?" for number in NUMBERS)
    assert len(set(row.hard_negative_ids)) == 5


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "stream"])
def test_the_references_thirteen_columns_load(tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_pylist([RECORD])
    path = tmp_path / f"train.{kind}"
    match kind:
        case "jsonl":
            path.write_text(json.dumps(RECORD) + "\n")
        case "parquet":
            pq.write_table(table, path)
        case "arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case "stream":  # a folder, as `datasets` saves one
            path = tmp_path / "train"
            path.mkdir()
            (path / "state.json").write_text("{}")
            with pa.ipc.new_stream(path / "data-00000-of-00001.arrow", table.schema) as writer:
                writer.write_table(table)

    (row,) = import_parallel(path, languages=["sw"]).rows

    check(row)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    names = [*RECORD, next(iter(RECORD))]
    columns = [[value] for value in RECORD.values()]
    table = pa.Table.from_arrays([pa.array(each) for each in [*columns, columns[0]]], names)
    pq.write_table(table, tmp_path / "train.parquet")

    with pytest.raises(DataError, match=f"has two columns `{names[0]}`: rename one of them"):
        import_parallel(tmp_path / "train.parquet", languages=["sw"])


def test_the_column_names_of_the_references_readme_load_in_any_order(tmp_path: Path) -> None:
    names = {"en_question": "anchor", "paragraphs": "positive", "lang_question": "cross_anchor"}
    renamed = {names.get(name, name.replace("neg_", "negative_")): RECORD[name] for name in RECORD}
    renamed = {name.replace("negative_query", "neg_query"): text for name, text in renamed.items()}
    (tmp_path / "t.jsonl").write_text(json.dumps(dict(reversed(renamed.items()))) + "\n")

    (row,) = import_parallel(tmp_path / "t.jsonl", languages=["sw"]).rows

    check(row)


def test_unnamed_columns_load_by_position_on_request(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({f"c{place}": text for place, text in enumerate(RECORD.values())}))

    with pytest.raises(DataError, match=r"t\.jsonl:1 has no column 'query' .* --by-position"):
        import_parallel(path, languages=["sw"])
    (row,) = import_parallel(path, languages=["sw"], by_position=True).rows
    check(row)


def test_ten_negatives_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    record = {"query": "q", "positive": "p", "translated_query": "t", "language": "de"}
    record |= {f"negative_{number}": f"n{number}" for number in range(1, 12)}
    (tmp_path / "t.jsonl").write_text(json.dumps(record))

    (row,) = import_parallel(tmp_path / "t.jsonl").rows

    assert row.hard_negatives == tuple(f"n{number}" for number in range(1, 12))


def test_equal_texts_have_equal_ids(tmp_path: Path) -> None:
    lines = [RECORD, RECORD | {"en_question": "What is drunk?", "lang_question": "Nini?"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    first, second = import_parallel(tmp_path / "t.jsonl", languages=["sw"]).rows

    assert first.passage_id == second.passage_id
    assert first.query_id != second.query_id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neg_query_5": None}, ":2 has `hard_negative_queries\\[4\\]` that is not text"),
        ({"paragraphs": None}, ":2 lacks the role `positive`"),
        ({"neg_1": "Tea grows."}, ":2 has its positive among"),
        ({"neg_1": ["list"]}, ":2 has `hard_negatives\\[0\\]` that is not text"),
    ],
)
def test_a_bad_row_of_a_table_is_named(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD | changes) + "\n")

    with pytest.raises(DataError, match=reason):
        import_parallel(path, languages=["sw"])


@pytest.mark.parametrize(
    ("left_out", "by_position", "reason"),
    [
        ("neg_query_5", False, "5 columns of negative passages and 4 of negative queries"),
        ("neg_query_5", True, r"12 columns of text, not 3 \+ 2 N"),
        ("lang_question", False, "no column 'translated_query'"),
    ],
)
def test_unequal_columns_are_refused(
    tmp_path: Path, left_out: str, by_position: bool, reason: str
) -> None:
    record = {name: text for name, text in RECORD.items() if name != left_out}
    (tmp_path / "t.jsonl").write_text(json.dumps(record))

    with pytest.raises(DataError, match=reason):
        import_parallel(tmp_path / "t.jsonl", languages=["sw"], by_position=by_position)


def test_a_table_without_a_language_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(RECORD))

    with pytest.raises(DataError, match="lacks the role `language`"):
        import_parallel(tmp_path / "t.jsonl")
    with pytest.raises(DataError, match="name one --language"):
        import_parallel(tmp_path / "t.jsonl", languages=["sw", "ha"])


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_broken_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no table")

    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        import_parallel(tmp_path / name, languages=["sw"])


def test_line_aligned_texts_give_rows_by_document(tmp_path: Path) -> None:
    (tmp_path / "news.en.txt").write_text("One.\nTwo.\nThree.\nFour.\n")
    (tmp_path / "news.swh.txt").write_text("Moja.\nMbili.\nTatu.\nNne.\n")
    (tmp_path / "documents.tsv").write_text("a\na\nb\nb\n")

    imported = import_parallel(tmp_path)

    assert [(row.translated_query, row.positive, row.language) for row in imported.rows] == [
        ("Moja.", "Two.", "sw"),
        ("Mbili.", "One.", "sw"),
        ("Tatu.", "Four.", "sw"),
        ("Nne.", "Three.", "sw"),
    ]
    assert imported.evaluation is None
    held_out = import_parallel(tmp_path, held_out_share=0.5)
    assert held_out.evaluation
    assert len(held_out.rows) == len(held_out.evaluation.passages["en"]) == 2


def test_a_folder_of_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a table"):
        import_parallel(tmp_path)


def test_a_language_selects_the_rows_of_a_table_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    records = [RECORD | {"language": language} for language in ("sw", "ha")]
    path.write_text("".join(json.dumps(each) + "\n" for each in records))

    assert [row.language for row in import_parallel(path).rows] == ["sw", "ha"]
    assert [row.language for row in import_parallel(path, languages=["ha"]).rows] == ["ha"]


def test_options_that_a_table_or_a_text_does_not_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(RECORD) + "\n")
    (tmp_path / "a.en.txt").write_text("Tea.\n")

    with pytest.raises(DataError, match="t.jsonl is a table, .* leave --held-out-share out"):
        import_parallel(tmp_path / "t.jsonl", languages=["sw"], held_out_share=0.5)
    with pytest.raises(DataError, match="is no table, .* leave --by-position"):
        import_parallel(tmp_path, by_position=True)
