import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data.rows import Row
from trainer.datasets.formats.squad_format import (
    Question,
    SquadFile,
    evaluation_data,
    parallel_rows,
    read_squad,
)
from trainer.datasets.formats.xquad import import_xquad, xquad_files
from trainer.errors import DataError


def squad(*articles: list[tuple[str, list[tuple[str, str]]]]) -> dict[str, Any]:
    """Nest paragraphs, each a context with its (id, question)s, as SQuAD 1.1 does."""
    return {
        "version": "1.1",
        "data": [
            {
                "title": "Title",
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [{"id": id_, "question": text, "answers": []} for id_, text in qas],
                    }
                    for context, qas in paragraphs
                ],
            }
            for paragraphs in articles
        ],
    }


def write(directory: Path, language: str, content: object) -> Path:
    path = directory / f"xquad.{language}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_xquad(directory: Path, language: str) -> SquadFile:
    return read_squad(directory / f"xquad.{language}.json")


def message_of(directory: Path, language: str = "en") -> str:
    with pytest.raises(DataError) as raised:
        read_xquad(directory, language)
    return str(raised.value)


def test_passages_are_named_by_article_and_paragraph(tmp_path: Path) -> None:
    articles = (
        [("Tea.", [("q1", "Tea?")])],
        [("Salt.", [("q2", "Salt?")]), ("Rice.", [("q3", "Rice?"), ("q4", "Whose?")])],
    )
    write(tmp_path, "en", squad(*articles))

    file = read_xquad(tmp_path, "en")

    assert [(passage.passage_id, passage.text) for passage in file.passages] == [
        ("a00.p00", "Tea."),
        ("a01.p00", "Salt."),
        ("a01.p01", "Rice."),
    ]
    assert file.questions[0] == Question("q1", "Tea?", "a00.p00")
    assert [query.passage_id for query in file.questions] == [
        "a00.p00",
        "a01.p00",
        "a01.p01",
        "a01.p01",
    ]


def test_the_title_is_not_part_of_a_passage(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))

    assert read_xquad(tmp_path, "en").passages[0].encoder_text == "Tea."


def test_languages_join_by_id_and_not_by_order_or_text(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Same.", [("q1", "Same?")]), ("Same.", [("q2", "Same?")])]))
    write(tmp_path, "de", squad([("Zwei.", [("q2", "Zwei?")]), ("Eins.", [("q1", "Eins?")])]))

    judged = evaluation_data(
        {language: read_xquad(tmp_path, language) for language in ("en", "de")}
    )

    assert judged.qrels == {
        "q1": {"a00.p00": 1, "de:a00.p01": 1},
        "q2": {"a00.p01": 1, "de:a00.p00": 1},
    }
    assert [passage.passage_id for passage in judged.passages["de"]] == ["de:a00.p00", "de:a00.p01"]


def test_a_passage_has_one_id_where_the_files_are_parallel(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))
    write(tmp_path, "de", squad([("Tee.", [("q1", "Tee?")])]))

    judged = evaluation_data(
        {language: read_xquad(tmp_path, language) for language in ("en", "de")}
    )

    assert judged.qrels == {"q1": {"a00.p00": 1}}
    assert judged.passages["de"][0].passage_id == "a00.p00"
    assert judged.queries["de"][0].article == "a00"


def test_a_question_that_english_lacks_is_refused_by_its_id(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))
    write(tmp_path, "de", squad([("Tee.", [("q9", "Geheim?")])]))
    english, german = read_xquad(tmp_path, "en"), read_xquad(tmp_path, "de")

    with pytest.raises(DataError, match=r"xquad\.de\.json: the question q9 is not in ") as raised:
        evaluation_data({"en": english, "de": german})
    assert "Geheim" not in str(raised.value)
    with pytest.raises(DataError, match="the question q9 is not in "):
        list(parallel_rows("squad", english, german, "de"))


def test_a_row_pairs_a_question_with_its_translation_and_the_english_passage(
    tmp_path: Path,
) -> None:
    write(tmp_path, "en", squad([("Salt.", [("q1", "Salt?")]), ("Tea.", [("q2", "Tea?")])]))
    write(tmp_path, "de", squad([("Tee.", [("q2", "Tee?")])]))

    rows = list(
        parallel_rows("squad", read_xquad(tmp_path, "en"), read_xquad(tmp_path, "de"), "de")
    )

    assert rows == [Row("Tea?", "Tee?", "de", "squad.a00.p01", "Tea.", "q2")]


def test_the_hubs_flat_form_gives_what_the_nested_one_gives(tmp_path: Path) -> None:
    content = squad(
        [("Tea.", [("q1", "Tea?"), ("q2", "Whose?")]), ("Salt.", [("q3", "Salt?")])],
        [("Rice.", [("q4", "Rice?")])],
    )
    content["data"][1]["title"] = "Other"
    write(tmp_path, "en", content)
    flat = [
        {"id": qas["id"], "title": article["title"], "question": qas["question"]}
        | {"context": paragraph["context"], "answers": {"text": ["x"], "answer_start": [0]}}
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for qas in paragraph["qas"]
    ]
    (tmp_path / "xquad.en").mkdir()
    path = tmp_path / "xquad.en" / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(flat), path)

    found, expected = read_squad(path), read_xquad(tmp_path, "en")

    assert (found.passages, found.questions) == (expected.passages, expected.questions)


def test_a_parquet_file_of_other_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["x"]}), path)

    with pytest.raises(DataError, match=r"x\.parquet is not a Parquet file with SQuAD's columns"):
        read_squad(path)


def test_languages_are_found_by_file_name_english_first(tmp_path: Path) -> None:
    for language in ("zh", "ar", "en"):
        write(tmp_path, language, {})
    (tmp_path / "README.md").touch()

    assert list(xquad_files(tmp_path)) == ["en", "ar", "zh"]


def test_a_language_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))

    with pytest.raises(DataError, match=r"holds no xquad\.eo\.json"):
        import_xquad(tmp_path, languages=["eo"])


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_folder_without_xquad_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError, match=r"holds no xquad\.en\.json"):
        xquad_files(tmp_path / folder)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ([], "$.data is missing"),
        ({}, "$.data is missing"),
        ({"data": {}}, "$.data is not a list"),
        ({"data": [{}]}, "$.data[0].paragraphs is missing"),
        ({"data": [{"paragraphs": ["Tea"]}]}, "$.data[0].paragraphs[0].context is missing"),
        (
            {"data": [{"paragraphs": [{"context": "Tea"}]}]},
            "$.data[0].paragraphs[0].qas is missing",
        ),
        (
            squad([("Tea.", [("q1", "Tea?")]), (" ", [])]),
            "$.data[0].paragraphs[1].context is empty",
        ),
        (squad([("Tea.", [("q1", " ")])]), "$.data[0].paragraphs[0].qas[0].question is empty"),
        (
            squad([("Tea.", [("q1", 7)])]),  # type: ignore[list-item]
            "$.data[0].paragraphs[0].qas[0].question is not text",
        ),
        (
            squad([("Tea.", [("q1", "Tea?"), ("q1", "More?")])]),
            "$.data[0].paragraphs[0].qas[1].id repeats an id",
        ),
        (squad([("Tea.", [("q 1", "Tea?")])]), "$.data[0].paragraphs[0].qas[0].id repeats"),
        (squad([("\ud800", [])]), "$.data[0].paragraphs[0].context holds half a surrogate pair"),
    ],
)
def test_a_malformed_file_is_named_with_the_place_in_it(
    tmp_path: Path, content: object, place: str
) -> None:
    path = write(tmp_path, "en", content)

    message = message_of(tmp_path)

    assert message.startswith(f"{path}: {place}")
    assert "\n" not in message


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "en", squad())

    assert "holds no questions" in message_of(tmp_path)


@pytest.mark.parametrize("content", [b'{"data": [', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "xquad.en.json").write_bytes(content)

    assert "xquad.en.json is not valid JSON" in message_of(tmp_path)


def test_a_missing_language_is_named_by_its_file(tmp_path: Path) -> None:
    assert f"{tmp_path / 'xquad.eo.json'} cannot be read" in message_of(tmp_path, "eo")
