from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from service.retrieval.errors import ArtifactError, CheckpointError, quoted
from service.retrieval.storage.schema import Document, JsonText, parse_document, schema_violation


class Size(BaseModel):
    """A part of the document below."""

    size: int


class Example(Document):
    """A document of each kind of field."""

    name: JsonText
    count: int
    tags: list[str] | None = None
    files: dict[str, Size] = {}


FITTING = {"name": "x", "count": 1, "files": {"a": {"size": 1}, "b": {"size": 2}}}


@pytest.mark.parametrize("more", [{}, {"tags": []}, {"tags": ["a"]}, {"other": [{"x": 1.5}]}])
def test_a_document_of_the_right_form_is_kept_as_it_is(more: dict[str, object]) -> None:
    document = parse_document(Example, FITTING | more, Path("a.json"), ArtifactError, "fix it")

    assert document.model_dump(exclude_unset=True) == FITTING | more


@pytest.mark.parametrize(
    ("content", "violation"),
    [
        (None, "it is not an object"),
        ([], "it is not an object"),
        ({}, "`name` is missing"),
        (FITTING | {"name": None}, "`name` is not text"),
        (FITTING | {"name": "\ud800"}, "`name` holds half a surrogate pair"),
        (FITTING | {"count": True}, "`count` is not a whole number"),
        (FITTING | {"count": 1.0}, "`count` is not a whole number"),
        (FITTING | {"count": "1"}, "`count` is not a whole number"),
        (FITTING | {"tags": "ab"}, "`tags` is not a list"),
        (FITTING | {"tags": ["a", 5]}, "`tags[1]` is not text"),
        (FITTING | {"files": {"a": {"size": 2}, "b": {}}}, "`files.b.size` is missing"),
        (FITTING | {"files": {"a": {"size": 2}, "é\n": 5}}, r"`files.\xe9\n` is not an object"),
    ],
)
def test_the_first_violation_is_named_with_its_place(content: object, violation: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(content)

    assert schema_violation(caught.value) == violation


def test_an_error_names_file_field_and_fix() -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_document(Example, {}, Path("x/a.json"), CheckpointError, "restore it from a copy")

    assert str(caught.value) == "x/a.json: `name` is missing: restore it from a copy"


def test_a_value_from_a_file_is_quoted_in_one_short_line() -> None:
    assert quoted("mean") == "'mean'"
    assert quoted("a\nb\0\u2028\ud800") == r"'a\nb\x00\u2028\ud800'"
    assert quoted(10**400) == "1" + "0" * 76 + "..."
    assert len(quoted(["x" * 1000])) == 80


def test_long_names_of_fields_are_cut() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(FITTING | {"files": {"x" * 10_000: 5}})

    assert schema_violation(caught.value) == f"`files.{'x' * 80}` is not an object"
