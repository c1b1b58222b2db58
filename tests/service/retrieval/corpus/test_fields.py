import json
from pathlib import Path

import pytest

from service.retrieval.corpus.fields import checked_values, parse_fields
from service.retrieval.errors import PassageError, RetrievalError


def test_declarations_and_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('year = "int"\n"is it: open" = "bool"\n')
    (tmp_path / "b.json").write_text(json.dumps({"tags": "strings"}))

    fields = parse_fields([str(tmp_path / "a.toml"), str(tmp_path / "b.json"), "a:b:string"])

    assert fields == {
        "year": "number", "is it: open": "boolean", "tags": "strings", "a:b": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        ("year", "'year' has no kind: write NAME:KIND"),
        (":int", "':int' has no kind"),
        (
            "year:day",
            "'year' has the kind 'day': use one of string, number, boolean, strings, date",
        ),
        ("text:string", "'text' is part of every passage"),
        ("absent.toml", "absent.toml cannot be read: No such file"),
    ],
)
def test_an_invalid_declaration_is_refused_with_the_fix(declaration: str, reason: str) -> None:
    with pytest.raises(RetrievalError, match=reason):
        parse_fields([declaration])


def test_a_field_declared_twice_is_refused() -> None:
    with pytest.raises(RetrievalError, match="'year' is declared twice"):
        parse_fields(["year:int", "year:string"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", "year ="), ("a.json", "{"), ("a.json", "[]"), ("a.json", '{"a": 1}'),
        ("a.json", '{"a": "int", "a": "int"}'), ("a.json", "[" * 9999),
        ("a.toml", "a = " + "[" * 9999),
    ],
)  # fmt: skip
def test_an_invalid_file_of_fields_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(RetrievalError, match=f"{name} (is not valid|must map names to kinds)"):
        parse_fields([str(tmp_path / name)])


FIELDS = parse_fields(
    ["year:number", "country:string", "open:boolean", "tags:strings", "day:datetime"]
)


def test_a_passage_may_lack_any_field() -> None:
    assert checked_values("here", {"year": 1999, "other": {}}, FIELDS) == {
        "year": 1999, "country": None, "open": None, "tags": None, "day": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [
        {"year": "1999"},
        {"year": True},
        {"year": 2**53 + 1},
        {"country": 1},
        {"country": ["Kenya"]},
        {"open": 1},
        {"tags": "a"},
        {"tags": ["a", 1]},
        {"tags": [None]},
        {"day": "yesterday"},
        {"day": 20240229},
        {"day": "2023-02-29"},
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(metadata: dict[str, object]) -> None:
    (name,) = metadata

    with pytest.raises(PassageError, match=f"^file:7 has a `{name}` that is not a .* correct it"):
        checked_values("file:7", metadata, FIELDS)


def test_a_date_has_one_form() -> None:
    days = ["2024-03-01T02:00:00+03:00", "2024-02-29T23:00:00Z", "2024-02-29 23:00"]

    values = [checked_values("here", {"day": day}, FIELDS)["day"] for day in days]

    assert values == ["2024-02-29T23:00:00Z"] * 3
