"""Rows of a generation as it is written: those kept from another generation, and new ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.errors import PassageError, quoted
from service.retrieval.generation.manifest import TEXTS
from service.retrieval.storage.arrow_files import ArrowWriter

WINDOW_ROWS = 1024
TEXTS_SCHEMA = pa.schema([("digest", pa.binary(16)), ("is_truncated", pa.bool_())])


@dataclass(frozen=True)
class Rows:
    """Consecutive rows: columns, embeddings [N, D], flags [N], and digests of the texts [N].

    The columns of `passages` are those of the passages and, if there are any, of their evidence.
    """

    passages: pa.Table
    embeddings: Embeddings
    is_truncated: NDArray[np.bool_]
    digests: NDArray[np.void]

    @classmethod
    def none(cls, schema: pa.Schema, embedding_dim: int) -> "Rows":
        """Return no rows of a generation with these columns."""
        return cls(
            schema.empty_table(),
            np.empty((0, embedding_dim), np.float32),
            np.empty(0, np.bool_),
            np.empty(0, "V16"),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.digests)

    def __getitem__(self, part: slice) -> "Rows":
        """Return some of the rows, without a copy."""
        start, stop, _ = part.indices(len(self))
        return Rows(
            self.passages.slice(start, stop - start),
            self.embeddings[part],
            self.is_truncated[part],
            self.digests[part],
        )


@dataclass(frozen=True)
class Splice:
    """Where new rows go among those of another generation, and which of those are kept.

    `places` holds, for each new row, ascending, the number of other rows with a smaller id;
    `is_replaced` and `is_kept` say of each new row and of each other row what becomes of it.
    """

    places: NDArray[np.int64]
    is_replaced: NDArray[np.bool_]
    is_kept: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        table: PassageTable,
        new_ids: list[str],
        touched: set[str],
        origin_of: Callable[[int], str],
    ) -> "Splice":
        """Find the places of new rows, and the rows that leave.

        Args:
            table: the other generation's.
            new_ids: ids of the new rows, ascending.
            touched: documents all of whose rows leave.
            origin_of: returns where a new row is from.

        Raises:
            PassageError: a new row has the id of a row that stays.
        """
        places = np.fromiter(map(table.place, new_ids), np.int64, len(new_ids))
        # Places ascend: those after the last row come last.
        found = table.passage_ids(places[places < len(table)].tolist())
        is_replaced = np.zeros(len(new_ids), np.bool_)
        is_replaced[: len(found)] = [new == old for new, old in zip(new_ids, found, strict=False)]
        is_kept = np.ones(len(table), np.bool_)
        is_kept[[row for document in touched for row in table.rows_of(document)]] = False
        if (collisions := is_kept[places[is_replaced]]).any():
            row = int(np.flatnonzero(is_replaced)[collisions][0])
            raise PassageError(
                f"{origin_of(row)}: the id {quoted(new_ids[row])} is that of a chunk of another "
                "document, or a chunk's is that of another document: give the document another id"
            )
        return cls(places, is_replaced, is_kept)

    def merge(self, others: Rows, new: Iterator[Rows]) -> Iterator[Rows]:
        """Yield the kept rows and the new ones in the order of ids, in pieces of any length."""
        source = _Source(new)
        for start in range(0, len(others), WINDOW_ROWS):
            yield from self._window(others[start : start + WINDOW_ROWS], start, source)
        yield from source.take(int((self.places == len(others)).sum()))

    def _window(self, window: Rows, start: int, source: "_Source") -> Iterator[Rows]:
        """Yield the rows of a window that are kept, and the new ones before each of them."""
        first, last = np.searchsorted(self.places, (start, start + len(window)))
        inserted = np.bincount(self.places[first:last] - start, minlength=len(window))
        is_kept = self.is_kept[start : start + len(window)]
        # A piece ends before an inserted row, and where kept rows begin or end.
        is_cut = inserted > 0
        is_cut[1:] |= is_kept[1:] != is_kept[:-1]
        is_cut[0] = True
        cuts = [*np.flatnonzero(is_cut).tolist(), len(window)]
        for begin, end in zip(cuts, cuts[1:], strict=False):
            yield from source.take(int(inserted[begin]))
            if is_kept[begin]:
                yield window[begin:end]


class _Source:
    """New rows, of which the next few can be taken."""

    def __init__(self, pieces: Iterator[Rows]) -> None:
        self._pieces = pieces
        self._left: Rows | None = None

    def take(self, count: int) -> Iterator[Rows]:
        """Yield the next rows, in pieces."""
        while count:
            left = self._left if self._left else next(self._pieces)
            yield left[:count]
            self._left = left[count:]
            count -= min(count, len(left))


def beside(columns: pa.Table, others: pa.Table) -> pa.Table:
    """Return the columns of two tables as one table."""
    for column in others.schema:
        columns = columns.append_column(column, others[column.name])
    return columns


def table_windows(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of all pieces in windows of `WINDOW_ROWS`; the last one may be shorter."""
    waiting: list[pa.Table] = []
    num_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        num_waiting += len(piece)
        while num_waiting >= WINDOW_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, WINDOW_ROWS)
            waiting, num_waiting = [joined.slice(WINDOW_ROWS)], num_waiting - WINDOW_ROWS
    if num_waiting:
        yield pa.concat_tables(waiting)


def write_rows(
    directory: Path, rows: Iterator[Rows], tables: Sequence[ArrowWriter], vectors: BinaryIO
) -> NDArray[np.bool_]:
    """Write rows to the files of a generation; return which texts were truncated.

    Args:
        directory: the generation's folder, for the digests of the texts.
        rows: in the order of ids.
        tables: each writes its own columns.
        vectors: the file of embeddings.
    """
    flags: list[NDArray[np.bool_]] = []
    digests: list[NDArray[np.void]] = []

    def columns() -> Iterator[pa.Table]:
        for piece in rows:
            vectors.write(piece.embeddings.data)
            flags.append(piece.is_truncated)
            digests.append(piece.digests)
            yield piece.passages

    for window in table_windows(columns()):
        for table in tables:
            table.write_rows(window)
    is_truncated = np.concatenate(flags)
    _write_texts(directory / TEXTS, np.concatenate(digests), is_truncated)
    return is_truncated


def _write_texts(path: Path, digests: NDArray[np.void], is_truncated: NDArray[np.bool_]) -> None:
    """Write the digest of each row's text, and whether it was truncated, [N] each."""
    digest_column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(digests), [None, pa.py_buffer(digests.tobytes())]
    )
    table = pa.table([digest_column, pa.array(is_truncated)], schema=TEXTS_SCHEMA)
    with pa.ipc.new_file(str(path), TEXTS_SCHEMA) as writer:
        writer.write_table(table)
