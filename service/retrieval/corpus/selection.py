"""Selections: the rows that meet a filter, and counts of a field's values among them (facets)."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.retrieval.corpus.dates import format_date
from service.retrieval.corpus.filters import (
    AnyOf,
    Bound,
    Condition,
    Filter,
    Not,
    check_declared,
    check_filter,
)
from service.retrieval.corpus.table import PassageTable, to_array

Mask = NDArray[np.bool_]
T = TypeVar("T")
MAX_FACET_VALUES = 100
# Limits of the cache of masks, each of which takes a byte for each passage.
CACHE_BYTES = 2**28
MAX_ENTRIES = 512
COMPARISONS: dict[str, Callable[..., Any]] = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


class Selection:
    """The rows that meet a filter; computed when they are first asked for."""

    def __init__(self, filter: Filter, find_mask: Callable[[], Mask]) -> None:
        """Keep a checked filter and the function that computes its mask."""
        self.filter = filter
        self._find_mask = find_mask

    @cached_property
    def mask(self) -> Mask:
        """Compute whether each passage meets the filter, [N]."""
        return self._find_mask()

    @cached_property
    def count(self) -> int:
        """Count the passages that meet the filter."""
        return int(np.count_nonzero(self.mask))

    def find(self) -> None:
        """Compute the mask now."""
        _ = self.count

    def part(self, start: int, stop: int) -> "Selection":
        """Return the selection among the rows from `start` to `stop`."""
        return Selection(self.filter, lambda: self.mask[start:stop])


@dataclass(frozen=True, slots=True)
class Facet:
    """Counts of a field's values among passages.

    `values` are the most frequent values with their counts, `num_values` the number of distinct
    values.
    """

    values: tuple[tuple[Any, int], ...]
    num_values: int


class Selections:
    """Selections and facets of one table, in an LRU cache; safe to use from several threads."""

    def __init__(self, passages: PassageTable) -> None:
        """Use the passages of a table."""
        self._passages = passages
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._max_entries = min(MAX_ENTRIES, CACHE_BYTES // max(1, len(passages)) + 1)
        self._lock = Lock()

    def select(self, filter: Filter) -> Selection:
        """Return the passages that meet a filter.

        Raises:
            FilterError: the filter has a field that is not declared, or values of another kind.
        """
        check_filter(filter, self._passages.fields)
        return self._remember(filter, lambda: Selection(filter, lambda: self._mask(filter)))

    def facets(self, fields: Sequence[str], filter: Filter | None) -> dict[str, Facet]:
        """Count the values of fields among the passages that meet a filter; the counts are exact.

        Raises:
            FilterError: a field is not declared, or the filter is wrong.
        """
        for position, field in enumerate(fields):
            check_declared(field, self._passages.fields, f"facets[{position}]")
        selection = self.select(filter) if filter else None
        return {
            field: self._remember((field, filter), partial(self._count, field, selection))
            for field in fields
        }

    def _mask(self, filter: Filter) -> Mask:
        mask = np.ones(len(self._passages), np.bool_)
        for name, conditions in filter.conditions:
            mask &= _all_hold(conditions, self._passages.values(name))
        if filter.any:
            mask &= np.logical_or.reduce([self._mask(alternative) for alternative in filter.any])
        return mask

    def _count(self, field: str, selection: Selection | None) -> Facet:
        values = self._passages.values(field)
        is_counted = self._passages.is_first  # a document counts once
        if selection is not None:
            is_counted = selection.mask if is_counted is None else selection.mask & is_counted
        if is_counted is not None:
            values = values.filter(pa.array(is_counted))
        if pa.types.is_list(values.type):
            values = _distinct_items(values)
        counts = pc.value_counts(values.drop_null())
        found = counts.field("values")
        if pa.types.is_timestamp(found.type):  # which Python reads by its time zone database
            found = found.cast(pa.int64())
        table = pa.table({"value": found, "count": counts.field("counts")})
        best = table.sort_by([("count", "descending"), ("value", "ascending")])
        return Facet(
            tuple(
                (_as_written(each["value"], values.type), each["count"])
                for each in best.slice(0, MAX_FACET_VALUES).to_pylist()
            ),
            len(table),
        )

    def _remember(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: T = self._kept[key]
                return kept
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._max_entries:
                self._kept.popitem(last=False)
        return made


def _all_hold(conditions: tuple[Condition, ...], values: pa.ChunkedArray) -> Mask:
    mask = np.ones(len(values), np.bool_)
    for condition in conditions:
        mask &= _holds(condition, values)
    return mask


def _holds(condition: Condition, values: pa.ChunkedArray) -> Mask:
    match condition:
        case Not(conditions):
            return ~_all_hold(conditions, values)
        case Bound(side, value):
            found = COMPARISONS[side](values, to_array([value], values.type)[0])
            return _mask(pc.fill_null(found, False))
        case AnyOf(wanted) if pa.types.is_list(values.type):
            return _any_item_in(values, pa.array(wanted, values.type.value_type))
        case AnyOf(wanted):
            return _mask(pc.is_in(values, to_array(wanted, values.type)))


def _any_item_in(lists: pa.ChunkedArray, wanted: pa.Array) -> Mask:
    mask = np.zeros(len(lists), np.bool_)
    start = 0
    for chunk in lists.chunks:
        is_wanted = pc.is_in(chunk.flatten(), wanted)
        rows = pc.list_parent_indices(chunk).filter(is_wanted)
        mask[start + rows.to_numpy()] = True
        start += len(chunk)
    return mask


def _distinct_items(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """Flatten lists of strings; a string repeated in one list counts once."""
    items = [pair for chunk in lists.chunks for pair in _pairs(chunk)]
    return pa.chunked_array(items, lists.type.value_type)


def _pairs(chunk: pa.ListArray) -> list[pa.Array]:
    table = pa.table({"row": pc.list_parent_indices(chunk), "item": chunk.flatten()})
    distinct = table.group_by(["row", "item"]).aggregate([])
    return list(distinct.column("item").chunks)


def _as_written(value: Any, kind: pa.DataType) -> Any:
    """Return a value of a column as passages' metadata has it: whole numbers as int, dates."""
    if pa.types.is_timestamp(kind):
        return format_date(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mask(values: pa.ChunkedArray) -> Mask:
    mask: Mask = values.to_numpy()
    return mask
