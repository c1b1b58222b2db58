"""Reads Parquet files as records of JSON values, whatever the Arrow types of the columns.

| Arrow | JSON |
|---|---|
| timestamp, date, time | ISO 8601 in UTC, with the digits that it has; without a zone it is UTC |
| duration | seconds, a number |
| decimal | a number as it is written: 1.50 is 1.5, and 3 with no decimals is 3 |
| float16, float32 | the shortest number that rounds to it: .1, not .10000000149 |
| UUID, dictionary, JSON text | text, or what the dictionary holds |
| list, map, struct | list, object, object |

No value depends on pandas, which Arrow asks for nanoseconds where it is installed.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.retrieval.corpus.dates import format_clock, format_day, format_instant
from service.retrieval.errors import PassageError

BATCH_ROWS = 1024
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DAY_MILLISECONDS = 86_400_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that JSON cannot hold."""

    reason: str


def parquet_records(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the rows of a file, each with its origin (`file:row`), without nulls.

    A value that JSON cannot hold is an `Unreadable`, so that a caller can skip the row.

    Raises:
        PassageError: the file is not readable as Parquet, or two columns have one name.
    """
    number = 0
    try:
        # Microseconds hold every year; the nanoseconds that Spark once wrote overflow.
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            if name := repeated_name(file.schema_arrow):
                raise PassageError(f"{path} has two columns `{name}`: rename one of them")
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch_records(batch):
                    number += 1
                    yield (
                        f"{path}:{number}",
                        {name: value for name, value in row.items() if value is not None},
                    )
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PassageError(f"{path} is not readable as Parquet: {reason}") from None


def repeated_name(schema: pa.Schema) -> str | None:
    """Return the first name that two columns have, if there is one."""
    return next((name for name, count in Counter(schema.names).items() if count > 1), None)


def batch_records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as JSON values by column."""
    names = batch.schema.names
    for row in zip(*map(json_values, batch.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def json_values(array: pa.Array) -> list[Any]:
    """Return the values of an array as JSON values; `Unreadable` where there is none."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = isinstance(kind, pa.UuidType)
        return _each(array, str) if is_uuid else json_values(array.storage)
    if pa.types.is_dictionary(kind):
        return json_values(array.dictionary_decode())
    if pa.types.is_struct(kind):
        return _structs(array)
    if pa.types.is_nested(kind):
        return _lists(array)
    if pa.types.is_temporal(kind):
        return _times(array)
    if pa.types.is_floating(kind):
        return _each(array, _number(kind))
    if pa.types.is_decimal(kind):
        return _each(array, _decimal)
    if re.search("binary", str(kind)):
        return _each(array, lambda value: Unreadable("bytes: convert them to text"))
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        return _each(array.cast(pa.binary()), _utf_8)


def _each(array: pa.Array, convert: Callable[[Any], object]) -> list[object]:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _number(kind: pa.DataType) -> Callable[[float], object]:
    """Return the conversion of a column's numbers."""

    narrow = {pa.float16(): np.float16, pa.float32(): np.float32}.get(kind, np.float64)

    def convert(value: float) -> object:
        if not isfinite(value):
            return Unreadable("NaN or infinite: write null")
        return float(str(narrow(value)))

    return convert


def _decimal(value: Decimal) -> object:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= 0:
        return int(value)
    number = float(value)
    is_kept = Decimal(repr(number)) == value
    return number if is_kept else Unreadable("a decimal with more digits than a number of JSON")


def _utf_8(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return Unreadable("text that is not UTF-8")


def _times(array: pa.Array) -> list[object]:
    """Convert dates and times from their integers: Python's own have fewer years and digits."""
    kind = array.type
    if pa.types.is_date32(kind):
        return _each(array.cast(pa.int32()), partial(_dated, format_day))
    if pa.types.is_date64(kind):
        return _each(
            array.cast(pa.int64()), lambda value: _dated(format_day, value // DAY_MILLISECONDS)
        )
    if pa.types.is_interval(kind):
        return _each(array, lambda value: Unreadable("an interval: write a duration"))
    per_second = PER_SECOND[kind.unit]
    integers = array.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())
    if pa.types.is_duration(kind):
        return _each(integers, lambda value: _quotient(value, per_second))
    to_text = format_instant if pa.types.is_timestamp(kind) else format_clock
    return _each(integers, lambda value: _dated(lambda each: to_text(each, per_second), value))


def _dated(to_text: Callable[[int], str], value: int) -> object:
    try:
        return to_text(value)
    except ValueError as error:
        return Unreadable(str(error))


def _quotient(value: int, per_second: int) -> int | float:
    return value // per_second if value % per_second == 0 else value / per_second


def _structs(array: pa.StructArray) -> list[object]:
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        return [Unreadable("a struct with two fields of one name")] * len(array)
    columns = [json_values(column) for column in array.flatten()]
    rows: Iterator[tuple[object, ...]] = zip(*columns, strict=True)
    return [
        dict(zip(names, row, strict=True)) if is_valid else None
        for row, is_valid in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _lists(array: Any) -> list[object]:
    """Convert lists of any kind, and maps, whose items are structs of a key and a value."""
    kind = array.type
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        array = array.cast(pa.list_(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(kind.value_type))
    offsets = array.offsets.to_pylist()
    items = json_values(array.values[offsets[0] : offsets[-1]])
    lists = [
        items[start - offsets[0] : stop - offsets[0]]
        for start, stop in zip(offsets, offsets[1:], strict=False)
    ]
    convert: Callable[[list[Any]], object] = _object if pa.types.is_map(kind) else list
    return [
        convert(each) if is_valid else None
        for each, is_valid in zip(lists, array.is_valid().to_pylist(), strict=True)
    ]


def _object(items: list[dict[str, Any]]) -> object:
    found: dict[str, object] = {}
    for item in items:
        key, value = item.values()
        if isinstance(key, Unreadable):
            return key
        name = key if isinstance(key, str) else json_key(key)
        if name in found:
            return Unreadable("a map with one key twice")
        found[name] = value
    return found


def json_key(value: object) -> str:
    """Return a key that is not a text as `json` writes it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
