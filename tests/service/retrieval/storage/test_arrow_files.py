"""Columns of strings, read from the buffers of Arrow."""

import pyarrow as pa
import pytest

from service.retrieval.storage.arrow_files import Strings

PIECES = ["", "tea", "ծառ", "木\x00", "🌲" * 50, ""]


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([PIECES]),
        pa.chunked_array([PIECES[:2], [], PIECES[2:], [""]]),
        pa.chunked_array([pa.array(["before", *PIECES]).slice(1), pa.array(PIECES).slice(2, 3)]),
        pa.chunked_array([["", ""]]),
    ],
    ids=["one chunk", "an empty chunk", "slices", "no text"],
)
def test_strings_are_those_of_arrow(column: pa.ChunkedArray) -> None:
    strings = Strings(column)
    assert [strings[row] for row in range(len(column))] == column.to_pylist()


def test_a_row_behind_the_last_is_no_string() -> None:
    with pytest.raises(IndexError):
        Strings(pa.chunked_array([["tea"]]))[1]
