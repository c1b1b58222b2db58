import math

import pytest

from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.filters import (
    MAX_VALUES,
    AnyOf,
    Bound,
    Filter,
    Not,
    check_filter,
    parse_filter,
)
from service.retrieval.errors import FilterError

FIELDS = parse_fields(["year:number", "country:string", "open:boolean", "tags:strings", "day:date"])


def test_every_form_of_filter_is_parsed() -> None:
    parsed = parse_filter(
        {
            "year": {"gte": 2000, "lt": 2010, "not": 2005},
            "country": ["Kenya", "Peru"],
            "open": True,
            "tags": {"not": {"gt": "a"}},
        }
    )

    assert parsed == Filter(
        (
            ("country", (AnyOf(("Kenya", "Peru")),)),
            ("open", (AnyOf((True,)),)),
            ("tags", (Not((Bound("gt", "a"),)),)),
            ("year", (Bound("gte", 2000), Bound("lt", 2010), Not((AnyOf((2005,)),)))),
        )
    )


def test_filters_with_another_order_of_fields_and_bounds_are_equal() -> None:
    left = parse_filter({"a": 1, "b": {"lt": 5, "gt": 1}})
    right = parse_filter({"b": {"gt": 1, "lt": 5}, "a": 1})

    assert left == right
    assert hash(left) == hash(right)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("country", "filter"),
        ({}, "filter"),
        ([], "filter"),
        ({"country": None}, "filter.country"),
        ({"country": []}, "filter.country"),
        ({"country": ["a", None]}, "filter.country"),
        ({"country": [["a"]]}, "filter.country"),
        ({"country": ["a"] * (MAX_VALUES + 1)}, "filter.country"),
        ({"country": {}}, "filter.country"),
        ({"country": {"is": "a"}}, "filter.country"),
        ({"country": {"not": {"not": "a"}}}, "filter.country"),
        ({"country": {"not": {}}}, "filter.country.not"),
        ({"year": {"gte": None}}, "filter.year.gte"),
        ({"year": {"gte": True}}, "filter.year.gte"),
        ({"year": {"gte": [1]}}, "filter.year.gte"),
        ({"country": "\ud800"}, "filter.country"),
        ({"country": {"lt": "\ud800"}}, "filter.country.lt"),
    ],
)
def test_another_form_is_refused_with_the_field(content: object, field: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(content)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"year": "2000"}, "filter.year"),
        ({"year": True}, "filter.year"),
        ({"year": [2000, "2001"]}, "filter.year"),
        ({"year": math.inf}, "filter.year"),
        ({"year": 2**60}, "filter.year"),
        ({"year": {"gte": "2000"}}, "filter.year.gte"),
        ({"year": {"not": {"lt": "2000"}}}, "filter.year.not.lt"),
        ({"country": 1}, "filter.country"),
        ({"country": {"lt": 1}}, "filter.country.lt"),
        ({"open": 1}, "filter.open"),
        ({"open": {"gt": 1}}, "filter.open"),
        ({"tags": 1}, "filter.tags"),
        ({"tags": {"gt": "a"}}, "filter.tags"),
        ({"day": 2024}, "filter.day"),
        ({"day": ["2024-02-29", "2024"]}, "filter.day"),
        ({"day": {"gte": "yesterday"}}, "filter.day.gte"),
        ({"day": {"not": {"lt": "2023-02-29"}}}, "filter.day.not.lt"),
        ({"place": "a"}, "filter.place"),
    ],
)
def test_a_filter_that_does_not_fit_the_fields_is_refused_with_the_field(
    content: object, field: str
) -> None:
    with pytest.raises(FilterError) as caught:
        check_filter(parse_filter(content), FIELDS)

    assert caught.value.field == field


def test_an_undeclared_field_is_refused_with_the_declared_ones() -> None:
    with pytest.raises(FilterError, match=r"it declares: year \(number\), country \(string\)"):
        check_filter(parse_filter({"place": "a"}), FIELDS)


def test_alternatives_are_filters_and_a_field_may_be_called_any() -> None:
    fields = parse_fields(["any:strings", "year:number"])

    alternatives = parse_filter({"any": [{"any": "a"}, {"year": 1999}], "year": 2000})
    check_filter(alternatives, fields)

    assert alternatives.any == (parse_filter({"any": "a"}), parse_filter({"year": 1999}))
    assert parse_filter({"any": ["a", "b"]}).any == ()


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        ({"any": [{"year": 1}, 2]}, "filter.any[1]", "must be an object of fields"),
        ({"any": [{}]}, "filter.any[0]", "is empty: name a field"),
        ({"any": [{"year": {"gt": None}}]}, "filter.any[0].year.gt", "must be a number"),
        ({"any": [{"year": 1}] * 65}, "filter.any", "must have 1 to 64 filters"),
    ],
)
def test_a_wrong_alternative_is_named(content: object, field: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason) as caught:
        parse_filter(content)

    assert caught.value.field == field


def test_alternatives_are_nested_four_levels_deep_at_most() -> None:
    content: dict[str, object] = {"year": 1}
    for _ in range(4):
        content = {"any": [content]}
    parse_filter(content)

    with pytest.raises(FilterError, match="nested deeper than 4 levels"):
        parse_filter({"any": [content]})


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"any": [{"year": 1}, {"month": 1}]}, "filter.any[1].month"),
        ({"any": [{"year": 1}, {"year": {"gte": "x"}}]}, "filter.any[1].year.gte"),
        (
            {"any": [{"any": [{"year": 1}, {"year": {"not": "x"}}]}]},
            "filter.any[0].any[1].year.not",
        ),
        ({"any": [{"year": 1, "any": [{"year": 2}]}], "month": 1}, "filter.month"),
    ],
)
def test_a_wrong_field_of_an_alternative_is_named_with_its_place(
    content: object, field: str
) -> None:
    with pytest.raises(FilterError) as caught:
        check_filter(parse_filter(content), {"year": "number"})

    assert caught.value.field == field
