"""Arrow files: written in batches, and mapped into memory when they are read."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from service.retrieval.errors import GenerationError


class ArrowWriter:
    """Writes rows to an Arrow file in batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Create the file."""
        self._schema = schema
        self._writer = pa.ipc.new_file(str(path), schema)

    def __enter__(self) -> Self:
        """Return the writer; the end of the context completes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the file."""
        self._writer.close()

    def write_rows(self, rows: pa.Table) -> None:
        """Append the file's columns of rows as one batch; other columns are left out.

        Parts of arrays keep traces of what they were taken from; a copy by `take` has the bytes of
        arrays that were made of the values.
        """
        rows = rows.select(self._schema.names)
        copied = rows.take(pa.array(range(len(rows)), pa.int64()))
        for batch in copied.combine_chunks().to_batches():
            self._writer.write_batch(batch)


def map_rows(path: Path) -> pa.Table:
    """Return the rows of a file, which take no heap memory.

    Raises:
        GenerationError: it is not an Arrow file.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise GenerationError(
            f"{path} is not an Arrow file ({error}): build the index again"
        ) from None


class Values:
    """A column of bytes or strings by row, as views of its buffers.

    Arrow's own values take several times as long.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Take a column of the type `binary` or `string` without nulls."""
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._starts = list(accumulate(map(len, chunks), initial=0))
        self._chunks = [_views(chunk) for chunk in chunks]

    def __getitem__(self, row: int) -> memoryview:
        """Return the bytes of a row."""
        number = bisect_right(self._starts, row) - 1
        bounds, content = self._chunks[number]
        place = row - self._starts[number]
        return content[bounds[place] : bounds[place + 1]]


class Strings:
    """A column of the type `string` without nulls, by row."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Keep views of its buffers."""
        self._values = Values(column)

    def __getitem__(self, row: int) -> str:
        """Return the string of a row."""
        return str(self._values[row], "utf-8")


def _views(chunk: pa.Array) -> tuple[memoryview, memoryview]:
    """Return where the values begin, and their bytes."""
    _, bounds, content = chunk.buffers()
    return memoryview(bounds).cast("i")[chunk.offset :], memoryview(content or b"")
