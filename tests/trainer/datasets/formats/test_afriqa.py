import json
from pathlib import Path

import pytest

from trainer.datasets.formats.afriqa import import_afriqa
from trainer.errors import DataError

RECORD = {
    "id": "0",
    "question_lang": "Chai hukua wapi?",
    "question_translated": "Where does tea grow?",
    "context": "Tea grows on hills. ",
    "title": "Tea",
    "answer_pivot": {"answer_start": [13], "text": ["hills"]},
}
HEADERS = "gold_span_passages.afriqa.{}.en.{}.json"


def write(directory: Path, language: str, split: str, *records: object) -> Path:
    path = directory / HEADERS.format(language, split)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_rows_come_from_train_and_queries_from_dev(tmp_path: Path) -> None:
    write(tmp_path, "swa", "train", RECORD)
    write(tmp_path, "swa", "dev", RECORD | {"context": "Salt is mined.", "title": None})

    imported = import_afriqa(tmp_path)

    (row,) = imported.rows
    assert (row.query, row.translated_query, row.language) == (
        "Where does tea grow?",
        "Chai hukua wapi?",
        "sw",
    )
    assert row.positive == "Tea Tea grows on hills."  # as the service embeds title and text
    assert row.query_id == "afriqa.sw.train.0"
    assert imported.evaluation
    assert imported.evaluation.qrels.keys() == {"afriqa.sw.dev.0"}
    assert [query.text for query in imported.evaluation.queries["en"]] == ["Where does tea grow?"]
    assert [query.text for query in imported.evaluation.queries["sw"]] == ["Chai hukua wapi?"]
    answers = {query.answers for query in imported.evaluation.queries["sw"]}
    assert answers == {("hills",)}
    passages = {each.passage_id: each.text for each in imported.evaluation.passages["en"]}
    assert passages[row.passage_id] == "Tea grows on hills."  # a distractor
    (relevant,) = imported.evaluation.qrels["afriqa.sw.dev.0"]
    assert passages[relevant] == "Salt is mined."


def test_equal_passages_are_one(tmp_path: Path) -> None:
    write(tmp_path, "swa", "train", RECORD, RECORD | {"id": "1"})
    write(tmp_path, "hau", "dev", RECORD)

    imported = import_afriqa(tmp_path)

    assert len({row.passage_id for row in imported.rows}) == 1
    assert imported.evaluation
    assert len(imported.evaluation.passages["en"]) == 1


def test_records_without_a_field_are_counted_and_nan_is_missing(tmp_path: Path) -> None:
    records = [RECORD | {"context": None}, RECORD | {"question_lang": float("nan")}, RECORD]
    write(tmp_path, "swa", "train", *records)

    imported = import_afriqa(tmp_path)

    assert imported.skipped == {"no context": 1, "no question_lang": 1}
    assert len(imported.rows) == 1
    assert imported.evaluation is None


def test_questions_without_a_passage_are_rows_unless_one_with_a_passage_equals_them(
    tmp_path: Path,
) -> None:
    write(tmp_path, "swa", "train", RECORD)
    pairs = [
        {"id": 0, "question": "Chumvi?", "translated_question": "Where is salt?"},
        {"id": 1, "question": "chai hukua wapi", "translated_question": "Where grows tea?"},
        {"id": 2, "question": "", "translated_question": "Where?"},
    ]
    queries = tmp_path / "queries.afriqa.swa.en.train.json"
    queries.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    imported = import_afriqa(tmp_path)

    gold, pair = imported.rows
    assert gold.cross_weight == 1
    assert (pair.query, pair.translated_query, pair.language) == ("Where is salt?", "Chumvi?", "sw")
    assert (pair.positive, pair.passage_id, pair.cross_weight) == ("", "", 0)
    assert pair.query_id == "afriqa.queries.sw.train.0"
    assert imported.skipped == {"question also with a passage": 1, "no question": 1}


def test_only_the_requested_languages_are_read(tmp_path: Path) -> None:
    write(tmp_path, "swa", "train", RECORD)
    write(tmp_path, "hau", "train", RECORD)

    assert [row.language for row in import_afriqa(tmp_path, languages=["ha"]).rows] == ["ha"]
    with pytest.raises(DataError, match=r"holds no .* of zu"):
        import_afriqa(tmp_path, languages=["zu"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "1"}', "is not a record of AfriQA"),
        ('{"question_lang": 5}', "has `question_lang` that is not text"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, "swa", "train", RECORD)
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(DataError) as error:
        import_afriqa(tmp_path)
    assert str(error.value).startswith(f"{path}:2 {reason}")


def test_a_folder_without_afriqa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no gold_span_passages"):
        import_afriqa(tmp_path)
