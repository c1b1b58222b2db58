import json
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import DataError
from trainer.xquad import Query, judge, read_xquad, xquad_languages


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
    assert file.queries[0] == Query("q1", "Tea?", "a00.p00")
    assert [query.passage_id for query in file.queries] == [
        "a00.p00",
        "a01.p00",
        "a01.p01",
        "a01.p01",
    ]


def test_the_title_is_not_part_of_a_passage(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))

    assert read_xquad(tmp_path, "en").passages[0].encoder_text == "Tea."


def test_qrels_join_by_id_and_not_by_order_or_text(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Same.", [("q1", "Same?")]), ("Same.", [("q2", "Same?")])]))
    write(tmp_path, "de", squad([("Zwei.", [("q2", "Zwei?")]), ("Eins.", [("q1", "Eins?")])]))

    qrels = judge(read_xquad(tmp_path, "de"), read_xquad(tmp_path, "en"))

    assert qrels == {"q2": {"a00.p01": 1}, "q1": {"a00.p00": 1}}


def test_a_query_that_english_lacks_is_refused_by_its_id(tmp_path: Path) -> None:
    write(tmp_path, "en", squad([("Tea.", [("q1", "Tea?")])]))
    write(tmp_path, "de", squad([("Tee.", [("q9", "Geheim?")])]))

    with pytest.raises(DataError, match=r"xquad\.de\.json: the question q9 is not in ") as raised:
        judge(read_xquad(tmp_path, "de"), read_xquad(tmp_path, "en"))
    assert "Geheim" not in str(raised.value)


def test_languages_are_listed_english_first(tmp_path: Path) -> None:
    for language in ("zh", "ar", "en"):
        write(tmp_path, language, {})
    (tmp_path / "README.md").touch()

    assert xquad_languages(tmp_path) == ["en", "ar", "zh"]


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_folder_without_xquad_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError, match=r"holds no xquad\.<language>\.json"):
        xquad_languages(tmp_path / folder)


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
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "xquad.en.json").write_bytes(content)

    assert "xquad.en.json is not valid JSON" in message_of(tmp_path)


def test_a_missing_language_is_named_by_its_file(tmp_path: Path) -> None:
    assert f"{tmp_path / 'xquad.eo.json'} cannot be read" in message_of(tmp_path, "eo")
