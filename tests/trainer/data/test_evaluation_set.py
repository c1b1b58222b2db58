import json
from pathlib import Path

import pytest

from service.retrieval.corpus.reader import Passage, read_passages
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.errors import DataError, OutputError

JUDGED = EvaluationData(
    {
        "en": [Passage("tea", "Tea grows.", "Tea"), Passage("salt", "Salt.", "", {"page": 1})],
        "de": [Passage("tea", "Tee wächst.")],
    },
    {
        "en": [Query("q1", "Tea?", "drinks", ("on hills", "in Kenya")), Query("q2", "Salt?", "")],
        "de": [Query("q1", "Tee?", "drinks"), Query("q2", "Salz?", "")],
    },
    {"q1": {"tea": 1}, "q2": {"salt": 2}},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation set that a test may alter."""
    write_evaluation_set(tmp_path / "set", JUDGED)
    return tmp_path / "set"


def test_a_set_is_read_as_it_was_written(folder: Path) -> None:
    found = read_evaluation_set(folder)

    assert found.name == "set"
    assert found.qrels == JUDGED.qrels
    assert list(found.queries) == ["en", "de"]
    assert found.queries["de"] == (Query("q1", "Tee?", "drinks"), Query("q2", "Salz?", "salt"))
    assert found.passage_ids == {"en": {"tea", "salt"}, "de": {"tea"}}


def test_the_english_corpus_is_what_the_service_indexes(folder: Path) -> None:
    assert [passage for _, passage in read_passages(folder)] == JUDGED.passages["en"]


def test_a_query_counts_where_the_corpus_has_its_passage(folder: Path) -> None:
    found = read_evaluation_set(folder)

    assert [query.query_id for query in found.judged_queries("de", "en")] == ["q1", "q2"]
    assert [query.query_id for query in found.judged_queries("en", "de")] == ["q1"]


def test_the_layout_of_beir_is_read(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "Tea."}\n')
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "Tea?", "metadata": {}}\n{"_id": "q2", "text": "of no judgement"}\n'
    )
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td9\t0\n"
    )

    found = read_evaluation_set(tmp_path)

    assert found.queries == {"en": (Query("q1", "Tea?", "d1"),)}
    assert found.qrels == {"q1": {"d1": 1}}


def test_a_set_is_replaced_and_nothing_else_is(folder: Path) -> None:
    write_evaluation_set(
        folder, EvaluationData({"en": JUDGED.passages["en"]}, JUDGED.queries, JUDGED.qrels)
    )

    assert not (folder / "corpus.de.jsonl").exists()
    (folder / "qrels.tsv").unlink()
    with pytest.raises(OutputError, match="holds something else"):
        write_evaluation_set(folder, JUDGED)
    assert (folder / "corpus.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("qrels.tsv", "q1 tea 1\n", r"qrels\.tsv:1 is not a query id"),
        ("qrels.tsv", "q1\ttea\tmuch\n", r"qrels\.tsv:1 is not a query id"),
        ("qrels.tsv", "q1\ttea\t1\nq1\ttea\t²\n", r"qrels\.tsv:2 is not a query id"),
        ("qrels.tsv", "q1\ttea\t0\n", "judges no passage relevant"),
        ("qrels.tsv", "q1\trice\t1\n", "'rice', judged for the query 'q1', is in no corpus"),
        ("qrels.tsv", "q9\ttea\t1\n", r"queries\.jsonl has no query with a judgment"),
        ("queries.jsonl", "[]\n", r"queries\.jsonl:1 is not a JSON object"),
        ("queries.jsonl", '{"_id": "q 1", "text": "?"}\n', r"queries\.jsonl:1 needs a field `_id`"),
        ("queries.jsonl", '{"_id": "q1", "text": " "}\n', r"queries\.jsonl:1 needs a field `text`"),
        ("queries.jsonl", '{"_id": "q1", "text": "?"}\n' * 2, r":2 repeats the query 'q1'"),
        ("queries.xx.jsonl", "", r"queries\.xx\.jsonl has an unknown language in its name"),
    ],
)
def test_a_bad_file_is_named(folder: Path, name: str, content: str, reason: str) -> None:
    (folder / name).write_text(content)

    with pytest.raises(DataError, match=reason):
        read_evaluation_set(folder)


@pytest.mark.parametrize("content", [b"q1\ttea\t1\nq1\tth\xe9\t1\n", b"\xff\xfeq\x001\x00"])
def test_judgments_that_are_not_utf8_are_one_line_with_the_place(
    folder: Path, content: bytes
) -> None:
    (folder / "qrels.tsv").write_bytes(content)

    with pytest.raises(DataError, match=r"qrels\.tsv:[12] is not UTF-8 \(byte \d+ of the line\)"):
        read_evaluation_set(folder)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_judgments_of_windows_are_read(folder: Path, start: bytes) -> None:
    (folder / "qrels.tsv").write_bytes(start + b"query-id\tcorpus-id\tscore\r\nq1\ttea\t1\r\n\r\n")

    assert read_evaluation_set(folder).qrels == {"q1": {"tea": 1}}


@pytest.mark.parametrize("name", ["corpus", "queries", "qrels"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()

    with pytest.raises(DataError, match=f"{folder}.*{name}"):
        read_evaluation_set(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing is not a folder"):
        read_evaluation_set(tmp_path / "missing")


def test_the_name_of_a_set_is_that_of_its_card(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"name": "drinks"}))

    assert read_evaluation_set(folder).name == "drinks"
