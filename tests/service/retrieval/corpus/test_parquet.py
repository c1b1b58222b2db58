import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.retrieval.corpus.parquet import parquet_records
from service.retrieval.corpus.reader import read_passages
from service.retrieval.errors import PassageError

UUID = uuid.UUID("0fcf55d8-347f-44b2-a915-03faa1aa6d0f")
MOMENT = datetime(2024, 2, 29, 3, 0, 0, 5, timezone(timedelta(hours=3)))
# Array and JSON values; null is a missing value.
READABLE: dict[str, tuple[pa.Array, list[Any]]] = {
    "null": (pa.nulls(1), [None]),
    "bool": (pa.array([True, None]), [True, None]),
    "int8": (pa.array([-128], pa.int8()), [-128]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    "float16": (pa.array([0.1], pa.float16()), [0.1]),
    "float32": (pa.array([0.1, 1e30], pa.float32()), [0.1, 1e30]),
    "float64": (pa.array([0.1, None]), [0.1, None]),
    "decimal": (pa.array([Decimal("1.50"), Decimal("-0.07")]), [1.5, -0.07]),
    "decimal256": (pa.array([Decimal("12.30")], pa.decimal256(60, 20)), [12.3]),
    "whole decimal": (pa.array([Decimal(10**30)], pa.decimal128(38, 0)), [10**30]),
    "string": (pa.array(["", "é", None]), ["", "é", None]),
    "large_string": (pa.array(["a"], pa.large_string()), ["a"]),
    "string_view": (pa.array(["a"], pa.string_view()), ["a"]),
    "dictionary": (pa.array(["a", "a", None]).dictionary_encode(), ["a", "a", None]),
    "uuid": (pa.array([UUID.bytes, None], pa.uuid()), [str(UUID), None]),
    "json": (pa.array(['{"a": 1}'], pa.json_()), ['{"a": 1}']),
    "date32": (pa.array([-719162, 2932896], pa.date32()), ["0001-01-01", "9999-12-31"]),
    "date64": (pa.array([86_400_000], pa.date64()), ["1970-01-02"]),
    "timestamp[s]": (
        pa.array([-62135596800, 253402300799], pa.timestamp("s")),
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
    ),
    "timestamp[ms]": (pa.array([1], pa.timestamp("ms")), ["1970-01-01T00:00:00.001Z"]),
    "timestamp[us]": (pa.array([-1], pa.timestamp("us")), ["1969-12-31T23:59:59.999999Z"]),
    "timestamp[ns]": (
        pa.array([-(2**63), 2**63 - 1], pa.timestamp("ns")),
        ["1677-09-21T00:12:43.145224192Z", "2262-04-11T23:47:16.854775807Z"],
    ),
    "time zone": (
        pa.array([MOMENT], pa.timestamp("us", "Africa/Nairobi")),
        ["2024-02-29T00:00:00.000005Z"],
    ),
    "unknown time zone": (
        pa.array([0], pa.timestamp("s", "Mars/Olympus")),
        ["1970-01-01T00:00:00Z"],
    ),
    "dictionary of times": (
        pa.array([5], pa.timestamp("ms")).dictionary_encode(),
        ["1970-01-01T00:00:00.005Z"],
    ),
    "time32": (pa.array([3600], pa.time32("s")), ["01:00:00"]),
    "time64": (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
    "duration": (pa.array([90, -1], pa.duration("s")), [90, -1]),
    "duration[ns]": (pa.array([1_500_000_001], pa.duration("ns")), [1.500000001]),
    "list": (pa.array([["a", None], [], None]), [["a", None], [], None]),
    "large_list": (pa.array([["a"]], pa.large_list(pa.large_string())), [["a"]]),
    "list_view": (pa.array([[1], None], pa.list_view(pa.int8())), [[1], None]),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [2]),
            pa.array([[0.1, 2]], pa.list_(pa.float32(), 2)),
        ),
        [[0.1, 2]],
    ),
    "struct": (pa.array([{"a": 1, "b": None}, None]), [{"a": 1, "b": None}, None]),
    "map": (
        pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int8())),
        [{"a": 1}, {}, None],
    ),
    "map of numbers": (pa.array([[(1, [0.5])]], pa.map_(pa.int8(), pa.list_(pa.float32()))),
                       [{"1": [0.5]}]),
    "map of flags": (pa.array([[(True, 1)]], pa.map_(pa.bool_(), pa.int8())), [{"true": 1}]),
    "nested times": (pa.array([{"a": [{"at": MOMENT}]}]),
                     [{"a": [{"at": "2024-02-29T00:00:00.000005Z"}]}]),
}  # fmt: skip
DUPLICATE = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
LATIN_1 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
)
UNREADABLE: dict[str, tuple[pa.Array, str]] = {
    "NaN": (pa.array([float("nan")]), "NaN or infinite: write null"),
    "infinity": (pa.array([float("-inf")], pa.float32()), "NaN or infinite"),
    "NaN in a list": (pa.array([[float("nan")]]), "NaN or infinite"),
    "bytes": (pa.array([b"a"]), "bytes: convert them to text"),
    "bytes of one length": (pa.array([b"ab"], pa.binary(2)), "bytes"),
    "bytes in a struct": (pa.array([{"a": b"a"}]), "bytes"),
    "text that is not UTF-8": (LATIN_1, "text that is not UTF-8"),
    "long decimal": (pa.array([Decimal("0.12345678901234567890")]), "more digits than a number"),
    "date32": (pa.array([2932897], pa.date32()), "a date outside the years 1 to 9999"),
    "timestamp[s]": (pa.array([2**50], pa.timestamp("s")), "a date outside the years"),
    "timestamp[us]": (pa.array([-(2**63)], pa.timestamp("us")), "a date outside the years"),
    "struct": (DUPLICATE, "a struct with two fields of one name"),
    "map": (
        pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8())),
        "a map with one key twice",
    ),
}


def written(path: Path, array: pa.Array) -> Path:
    numbers = pa.array([str(number) for number in range(len(array))])
    texts = pa.array(["text"] * len(array))
    pq.write_table(pa.table({"id": numbers, "text": texts, "extra": array}), path / "p.parquet")
    return path / "p.parquet"


@pytest.mark.parametrize("name", READABLE)
def test_a_value_of_any_arrow_type_is_a_value_of_json(tmp_path: Path, name: str) -> None:
    array, values = READABLE[name]
    path = written(tmp_path, array)

    records = [record for _, record in parquet_records(path)]

    assert [record.get("extra") for record in records] == values
    assert [type(record.get("extra")) for record in records] == list(map(type, values))
    metadata = [dict(passage.metadata) for _, passage in read_passages(path)]
    assert metadata == [{} if value is None else {"extra": value} for value in values]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_value_that_json_cannot_hold_is_refused_with_file_row_and_column(
    tmp_path: Path, name: str
) -> None:
    array, reason = UNREADABLE[name]
    path = written(tmp_path, array)
    errors: list[PassageError] = []

    assert list(read_passages(path, errors.append)) == []

    [error] = errors
    assert str(error).startswith(f"{path}:1 has metadata `extra` that JSON cannot hold (")
    assert reason in str(error)
    assert "\n" not in str(error)


def test_the_other_rows_of_a_column_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, pa.array([2932896, 2932897, 0], pa.date32()))
    errors: list[PassageError] = []

    found = [passage.passage_id for _, passage in read_passages(path, errors.append)]

    assert found == ["0", "2"]
    assert len(errors) == 1


def test_rows_keep_their_values_over_several_batches(tmp_path: Path) -> None:
    lists = [[str(number)] * (number % 3) for number in range(3000)]
    path = written(tmp_path, pa.array(lists))

    assert [record.get("extra") for _, record in parquet_records(path)] == lists


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["t"]), pa.array(["u"])],
                                 ["id", "text", "text"])  # fmt: skip
    pq.write_table(table, path)

    with pytest.raises(PassageError, match=r"p\.parquet has two columns `text`: rename one"):
        list(read_passages(path))


def test_the_96_bit_timestamps_of_spark_keep_their_years(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"id": ["a"], "at": pa.array([253402300799], pa.timestamp("s"))})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)

    [(_, record)] = parquet_records(path)

    assert record["at"] == "9999-12-31T23:59:59Z"


def test_an_id_may_be_a_uuid(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": pa.array([UUID.bytes], pa.uuid()), "text": ["t"]}), path)

    assert [passage.passage_id for _, passage in read_passages(path)] == [str(UUID)]


def test_pandas_and_a_time_zone_database_are_not_needed(tmp_path: Path) -> None:
    """The images have neither."""
    array = pa.array([1, None], pa.timestamp("ns", "Africa/Nairobi"))
    path = written(tmp_path, array)
    program = (
        "import sys; sys.modules['pandas'] = sys.modules['zoneinfo'] = None\n"
        "from pathlib import Path\n"
        "from service.retrieval.corpus.parquet import parquet_records\n"
        f"print([row.get('extra') for _, row in parquet_records(Path({str(path)!r}))])"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert found.stdout.strip() == "['1970-01-01T00:00:00.000000001Z', None]", found.stderr
