from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.filters import parse_filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import MAX_FACET_VALUES, Selections
from service.retrieval.corpus.table import PassageTable, PassageTableWriter
from service.retrieval.errors import FilterError

FIELDS = parse_fields(["country:string", "day:date", "open:boolean", "tags:strings", "year:number"])
ROWS: list[dict[str, Any]] = [
    {"year": 1999, "country": "Kenya", "open": True, "tags": ["a", "b"], "day": "2024-02-29"},
    {"year": 2000, "country": "Peru", "open": False, "tags": [], "day": "0800-01-01"},
    {"year": 2000.5, "country": "Peru", "tags": ["b", "b"], "day": "2024-02-29T00:00:00.000001Z"},
    {"year": -3, "country": "Jordan", "open": True, "tags": ["c"], "day": "1969-12-31T23:59:59Z"},
    {},
]


def selections(path: Path, rows: list[dict[str, Any]] = ROWS) -> Selections:
    """Rows in two batches, so that a column has two chunks."""
    with PassageTableWriter(path / "passages.arrow", FIELDS) as table:
        for part in (rows[:2], rows[2:]):
            table.write([Passage(str(number), "text", "", row) for number, row in enumerate(part)])
    return Selections(PassageTable(path / "passages.arrow", FIELDS))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ({"country": "Peru"}, [1, 2]),
        ({"country": ["Peru", "Kenya", "Atlantis"]}, [0, 1, 2]),
        ({"country": "Atlantis"}, []),
        ({"country": {"not": "Peru"}}, [0, 3, 4]),
        ({"country": {"not": ["Peru", "Kenya"]}}, [3, 4]),
        ({"country": {"gte": "K"}}, [0, 1, 2]),
        ({"year": 2000}, [1]),
        ({"year": [1999.0, -3]}, [0, 3]),
        ({"year": {"gte": 2000}}, [1, 2]),
        ({"year": {"gt": 2000}}, [2]),
        ({"year": {"gt": -3, "lte": 2000}}, [0, 1]),
        ({"year": {"not": {"gte": 2000}}}, [0, 3, 4]),
        ({"open": True}, [0, 3]),
        ({"open": {"not": True}}, [1, 2, 4]),
        ({"open": [True, False]}, [0, 1, 3]),
        ({"tags": "b"}, [0, 2]),
        ({"tags": ["a", "c"]}, [0, 3]),
        ({"tags": {"not": "b"}}, [1, 3, 4]),
        ({"country": "Peru", "year": {"lt": 2000.25}}, [1]),
        ({"any": [{"country": "Kenya"}, {"year": 2000}]}, [0, 1]),
        ({"any": [{"country": "Kenya"}]}, [0]),
        ({"open": True, "any": [{"country": "Peru"}, {"tags": "c"}, {"year": 1999}]}, [0, 3]),
        ({"any": [{"tags": "c"}, {"any": [{"year": 2000}], "country": "Kenya"}]}, [3]),
        ({"day": "2024-02-29T03:00:00+03:00"}, [0]),
        ({"day": ["2024-02-29", "0800-01-01"]}, [0, 1]),
        ({"day": {"gte": "2024-02-29"}}, [0, 2]),
        ({"day": {"gt": "2024-02-29"}}, [2]),
        ({"day": {"lt": "1970-01-01", "gt": "1969-12-31"}}, [3]),
        ({"day": {"lte": "9999-12-31", "gte": "0001-01-01"}}, [0, 1, 2, 3]),
        ({"day": {"not": {"gte": "1900-01-01"}}}, [1, 4]),
    ],
)
def test_a_filter_selects_rows(tmp_path: Path, content: object, rows: list[int]) -> None:
    selection = selections(tmp_path).select(parse_filter(content))

    assert np.flatnonzero(selection.mask).tolist() == rows
    assert selection.count == len(rows)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("country", [("Peru", 2), ("Jordan", 1), ("Kenya", 1)]),
        ("open", [(True, 2), (False, 1)]),
        (
            "day",
            [
                ("0800-01-01", 1),
                ("1969-12-31T23:59:59Z", 1),
                ("2024-02-29", 1),
                ("2024-02-29T00:00:00.000001Z", 1),
            ],
        ),
        ("tags", [("b", 2), ("a", 1), ("c", 1)]),
        ("year", [(-3, 1), (1999, 1), (2000, 1), (2000.5, 1)]),
    ],
)
def test_a_facet_counts_passages_by_value(
    tmp_path: Path, field: str, values: list[tuple[Any, int]]
) -> None:
    facet = selections(tmp_path).facets([field], None)[field]

    assert list(facet.values) == values
    assert facet.num_values == len(values)


def test_a_facet_counts_the_passages_that_meet_the_filter(tmp_path: Path) -> None:
    found = selections(tmp_path)

    for year, values in ({"gte": 1999}, (("b", 2), ("a", 1))), (5, ()):
        assert found.facets(["tags"], parse_filter({"year": year}))["tags"].values == values


def test_a_facet_of_many_values_keeps_the_most_frequent(tmp_path: Path) -> None:
    rows = [{"country": f"c{number:03}"} for number in range(150)] + [{"country": "c149"}]

    facet = selections(tmp_path, rows).facets(["country"], None)["country"]

    assert facet.num_values == 150
    assert len(facet.values) == MAX_FACET_VALUES
    assert facet.values[:2] == (("c149", 2), ("c000", 1))


def test_an_undeclared_facet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FilterError, match=r"facets\[1\]: this index declares no such field"):
        selections(tmp_path).facets(["tags", "city"], None)


def test_an_equal_filter_is_not_evaluated_again(tmp_path: Path) -> None:
    found = selections(tmp_path)
    first = found.select(parse_filter({"country": "Peru"}))

    assert found.select(parse_filter({"country": "Peru"})) is first


def test_a_part_of_a_selection_has_its_rows(tmp_path: Path) -> None:
    selection = selections(tmp_path).select(parse_filter({"country": "Peru"}))

    assert selection.part(2, 5).mask.tolist() == [True, False, False]
    assert selection.part(2, 5).count == 1


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "year": st.integers(-3, 3),
        "country": st.sampled_from("abc"),
        "open": st.booleans(),
        "tags": st.lists(st.sampled_from("abc"), max_size=3),
    },
)
BOUNDED = st.sampled_from(["gt", "gte", "lt", "lte", "not"])
LETTERS = st.sampled_from("abc")
SEVERAL = st.lists(LETTERS, min_size=1)
CONDITIONS = {
    "year": st.integers(-3, 3) | st.dictionaries(BOUNDED, st.integers(-3, 3), min_size=1),
    "country": SEVERAL | st.dictionaries(st.sampled_from(["gt", "not"]), LETTERS, min_size=1),
    "open": st.booleans() | st.booleans().map(lambda value: {"not": value}),
    "tags": LETTERS | SEVERAL.map(lambda value: {"not": value}),
}


def fits(row: dict[str, Any], name: str, condition: Any) -> bool:
    """Evaluate a filter for one passage as the documentation defines it."""
    value = row.get(name)
    if isinstance(condition, dict):
        for key, wanted in condition.items():
            if key == "not":
                holds = not fits(row, name, wanted)
            else:
                holds = value is not None and {
                    "gt": value > wanted, "gte": value >= wanted,
                    "lt": value < wanted, "lte": value <= wanted,
                }[key]  # fmt: skip
            if not holds:
                return False
        return True
    wanted = condition if isinstance(condition, list) else [condition]
    return any(item in wanted for item in (value if isinstance(value, list) else [value]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(VALUES, min_size=1, max_size=12),
    content=st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool),
)
def test_any_filter_selects_the_rows_that_a_slow_evaluation_selects(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], content: dict[str, Any]
) -> None:
    selection = selections(tmp_path_factory.mktemp("table"), rows).select(parse_filter(content))

    expected = [all(fits(row, *condition) for condition in content.items()) for row in rows]
    assert selection.mask.tolist() == expected
