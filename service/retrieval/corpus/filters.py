"""Filters: conditions on metadata fields that the passages found by a search meet.

    {"country": "Kenya"}                          equal
    {"country": ["Kenya", "Peru"]}                any of
    {"year": {"gte": 2000, "lt": 2010}}           in a range: gt, gte, lt, lte
    {"day": {"gte": "2024-02-29"}}                since a date (ISO 8601)
    {"country": {"not": ["Kenya", "Peru"]}}       not; also true without the field
    {"any": [{"country": "Kenya"}, {"year": 1963}]}   at least one of these filters

All conditions of a filter must hold. A list of strings equals each of its strings. A passage that
lacks the field is in no range and equals no value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from service.retrieval.corpus.dates import FORM
from service.retrieval.corpus.fields import FieldKind, Fields, describe_fields, is_of_kind
from service.retrieval.errors import FilterError

Scalar = str | bool | int | float
MAX_VALUES = 1000
ANY = "any"
MAX_DEPTH = 4
MAX_ALTERNATIVES = 64
BOUNDS = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Condition: the field has one of these values."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """Condition: the field is above or below a value; `side` is `gt`, `gte`, `lt` or `lte`."""

    side: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Not:
    """Condition: not all of these conditions hold."""

    conditions: "tuple[Condition, ...]"


Condition = AnyOf | Bound | Not


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions by field, which must all hold; hashable, and equal if the content is equal.

    Of the filters in `any`, if there are some, at least one must hold, too.
    """

    conditions: tuple[tuple[str, tuple[Condition, ...]], ...]
    any: "tuple[Filter, ...]" = ()


def parse_filter(content: object) -> Filter:
    """Parse a filter; the fields that an index declares are not considered.

    Raises:
        FilterError: the filter does not have a form that the module's docstring shows.
    """
    return _filter("filter", content, MAX_DEPTH)


def _filter(where: str, content: object, depth: int) -> Filter:
    if not isinstance(content, Mapping):
        raise FilterError(where, "must be an object of fields, such as {field: value}")
    if not content:
        raise FilterError(
            where, "is empty: name a field, such as {field: value}, or leave the filter out"
        )
    names = sorted(content)
    alternatives: tuple[Filter, ...] = ()
    if _are_filters(content.get(ANY)):
        names.remove(ANY)
        if depth == 0:
            raise FilterError(f"{where}.{ANY}", f"is nested deeper than {MAX_DEPTH} levels")
        if len(content[ANY]) > MAX_ALTERNATIVES:
            raise FilterError(f"{where}.{ANY}", f"must have 1 to {MAX_ALTERNATIVES} filters")
        alternatives = tuple(
            _filter(f"{where}.{ANY}[{number}]", each, depth - 1)
            for number, each in enumerate(content[ANY])
        )
    return Filter(
        tuple((str(name), _conditions(f"{where}.{name}", content[name])) for name in names),
        alternatives,
    )


def _are_filters(content: object) -> bool:
    """Return whether a value is a list of filters: no field has a list of objects."""
    return isinstance(content, list) and any(isinstance(each, Mapping) for each in content)


def check_filter(filter: Filter, fields: Fields, where: str = "filter") -> None:
    """Check that an index with these fields can answer a filter.

    Args:
        filter: as it was parsed.
        fields: those that the index declares.
        where: the place of the filter, for the error.

    Raises:
        FilterError: a field is not declared, or its kind does not have such values or ranges.
    """
    for name, conditions in filter.conditions:
        place = f"{where}.{name}"
        check_declared(name, fields, place)
        for condition in conditions:
            _check_kind(place, condition, fields[name])
    for number, alternative in enumerate(filter.any):
        check_filter(alternative, fields, f"{where}.{ANY}[{number}]")


def check_declared(name: str, fields: Fields, where: str) -> None:
    """Check that a field is declared.

    Raises:
        FilterError: it is not; the message names those that are.
    """
    if name not in fields:
        raise FilterError(
            where,
            f"this index declares no such field; it declares: {describe_fields(fields)}",
        )


def _conditions(where: str, content: object) -> tuple[Condition, ...]:
    if not isinstance(content, Mapping):
        return (_any_of(where, content),)
    if not content:
        raise FilterError(where, "must name a bound (gt, gte, lt, lte) or `not`")
    found: list[Condition] = []
    for key in sorted(map(str, content)):
        if key in BOUNDS:
            found.append(Bound(key, _bound(f"{where}.{key}", content[key])))
        elif key == "not" and not (isinstance(content[key], Mapping) and "not" in content[key]):
            found.append(Not(_conditions(f"{where}.not", content[key])))
        else:
            raise FilterError(where, "takes a value, a list, or an object of gt, gte, lt, lte, not")
    return tuple(found)


def _any_of(where: str, content: object) -> AnyOf:
    values: list[Any] = content if isinstance(content, list) else [content]
    if not 1 <= len(values) <= MAX_VALUES:
        raise FilterError(where, f"must have 1 to {MAX_VALUES} values")
    for value in values:
        if not isinstance(value, get_args(Scalar)):
            raise FilterError(where, "must be a string, a number, true or false, or a list of them")
        _check_text(where, value)
    return AnyOf(tuple(values))


def _bound(where: str, value: object) -> str | int | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FilterError(where, "must be a number or a string")
    _check_text(where, value)
    return value


def _check_text(where: str, value: Scalar) -> None:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise FilterError(where, "holds half a surrogate pair (U+D800-U+DFFF)") from None


def _check_kind(where: str, condition: Condition, kind: FieldKind) -> None:
    if isinstance(condition, Not):
        for inner in condition.conditions:
            _check_kind(f"{where}.not", inner, kind)
        return
    if isinstance(condition, Bound):
        if kind not in ("number", "string", "date"):
            raise FilterError(where, f"is of the kind {kind}, which has no ranges")
        where = f"{where}.{condition.side}"
    values = (condition.value,) if isinstance(condition, Bound) else condition.values
    item_kind = "string" if kind == "strings" else kind
    for value in values:
        if not is_of_kind(value, item_kind):
            form = f"{item_kind} ({FORM})" if kind == "date" else item_kind
            raise FilterError(where, f"must be a {form}: the field's kind is {kind}")
