"""Declared fields as columns of Milvus, and filters as Milvus expressions.

Columns are numbered, because a field may have any name. A second column says whether a passage has
the field, because Milvus before 2.5 has no null. A missing list is stored as an empty one. A date
is stored as microseconds since 1970.
"""

import json
from collections.abc import Iterator
from typing import Any

from service.retrieval.corpus.dates import parse_date
from service.retrieval.corpus.fields import FieldKind, Fields
from service.retrieval.corpus.filters import AnyOf, Bound, Condition, Filter, Not, Scalar
from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError

ROW = "row"
MAX_TEXT_BYTES = 65_535
MAX_ITEMS = 4096
TYPES: dict[FieldKind, dict[str, Any]] = {
    "string": {"datatype": "VARCHAR", "max_length": MAX_TEXT_BYTES},
    "number": {"datatype": "DOUBLE"},
    "boolean": {"datatype": "BOOL"},
    "date": {"datatype": "INT64"},
    "strings": {
        "datatype": "ARRAY",
        "element_type": "VARCHAR",
        "max_capacity": MAX_ITEMS,
        "max_length": MAX_TEXT_BYTES,
    },
}
ABSENT: dict[FieldKind, Any] = {
    "string": "",
    "number": 0.0,
    "boolean": False,
    "date": 0,
    "strings": [],
}
OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def field_columns(fields: Fields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the columns of declared fields: the name, and Milvus' parameters of the type."""
    for number, kind in enumerate(fields.values()):
        yield f"f{number}", TYPES[kind]
        if kind != "strings":
            yield f"has_f{number}", {"datatype": "BOOL"}


def field_values(passages: PassageTable, start: int, stop: int) -> list[dict[str, Any]]:
    """Return the column values of the rows `start` to `stop`, one mapping per row.

    Raises:
        GenerationError: a value is longer than Milvus allows.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(start, stop)]
    for number, (name, kind) in enumerate(passages.fields.items()):
        column = passages.values(name).slice(start, stop - start)
        if kind == "date":
            column = column.cast("int64")
        for row, value in zip(rows, column.to_pylist(), strict=True):
            _check_length(name, value)
            row[f"f{number}"] = ABSENT[kind] if value is None else value
            if kind != "strings":
                row[f"has_f{number}"] = value is not None
    return rows


def to_expression(filter: Filter, fields: Fields) -> str:
    """Convert a filter that was checked against the fields to a boolean expression of Milvus.

    >>> from service.retrieval.corpus.filters import parse_filter
    >>> to_expression(parse_filter({"year": {"gte": 2000, "not": 2005}}), {"year": "number"})
    '(has_f0 == true and f0 >= 2000.0) and not (has_f0 == true and f0 in [2005.0])'
    """
    numbers = {name: number for number, name in enumerate(fields)}
    expressions = [
        _condition(condition, f"f{numbers[name]}", fields[name])
        for name, conditions in filter.conditions
        for condition in conditions
    ]
    if filter.any:
        alternatives = (f"({to_expression(each, fields)})" for each in filter.any)
        expressions.append(f"({' or '.join(alternatives)})")
    return " and ".join(expressions)


def _condition(condition: Condition, column: str, kind: FieldKind) -> str:
    match condition:
        case Not(conditions):
            inner = " and ".join(_condition(each, column, kind) for each in conditions)
            return f"not {inner}" if len(conditions) == 1 else f"not ({inner})"
        case Bound(side, value):
            return f"(has_{column} == true and {column} {OPERATORS[side]} {_literal(value, kind)})"
        case AnyOf(values):
            listed = ", ".join(_literal(value, kind) for value in values)
            if kind == "strings":
                return f"(array_contains_any({column}, [{listed}]))"
            return f"(has_{column} == true and {column} in [{listed}])"


def _literal(value: Scalar, kind: FieldKind) -> str:
    if kind == "date":
        return str(parse_date(str(value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(float(value))


def _check_length(name: str, value: object) -> None:
    texts = value if isinstance(value, list) else [value]
    if len(texts) > MAX_ITEMS or any(
        isinstance(text, str) and len(text.encode()) > MAX_TEXT_BYTES for text in texts
    ):
        raise GenerationError(
            f"a passage's `{name}` is longer than Milvus allows ({MAX_TEXT_BYTES} bytes per "
            f"string, {MAX_ITEMS} strings per list): shorten it, or do not declare the field"
        )
