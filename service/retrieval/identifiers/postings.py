"""The file `identifiers.u64` of a generation: which rows hold an identifier.

A posting is 64 bits: the first 36 of the hash of a key, then the row. The file holds all postings,
ascending, so that a change of the corpus adds and removes some, and no text is read again.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError
from service.retrieval.identifiers.tokens import identifiers_of

ROW_BITS = 28
ROW_MASK = (1 << ROW_BITS) - 1
WINDOW_ROWS = 1024
WINDOW_ITEMS = 1 << 20
CACHED_KEYS = 1 << 16
ITEM = np.dtype("<u8")

Items = NDArray[np.uint64]
Rows = NDArray[np.int64]


class Postings:
    """The postings of a verified generation, mapped from their file."""

    def __init__(self, path: Path, count: int) -> None:
        """Map the file, and check its form.

        Args:
            path: of the file.
            count: of the passages.

        Raises:
            GenerationError: its size is wrong, its postings do not ascend, or one names a row that
                is not there.
        """
        size = path.stat().st_size
        if size % ITEM.itemsize:
            raise GenerationError(f"{path} does not hold whole postings: build the index again")
        # a plain array: to take a part of a memmap takes three times as long
        self.items: Items = np.asarray(np.memmap(path, ITEM, "r")) if size else np.empty(0, ITEM)
        for start in range(0, len(self.items), WINDOW_ITEMS):
            window = self.items[start : start + WINDOW_ITEMS + 1]
            largest = int((window & ROW_MASK).max())
            if largest >= count:
                fault = f"names row {largest} of {count}"
            elif (window[1:] <= window[:-1]).any():
                fault = "has postings that do not ascend"
            else:
                continue
            raise GenerationError(f"{path} is damaged, it {fault}: build the index again")

    def rows(self, key: str) -> Rows:
        """Return the rows of the passages that hold an identifier, ascending.

        Keys whose hashes begin alike share their rows.
        """
        low = np.uint64(_hash(key) << ROW_BITS)
        first = int(np.searchsorted(self.items, low))
        last = int(np.searchsorted(self.items, low | ROW_MASK, "right"))
        return (self.items[first:last] & ROW_MASK).astype(np.int64)


@dataclass(frozen=True)
class KeptPostings:
    """Postings of another generation, and the new row of each of its rows; -1 if it left."""

    postings: Postings
    new_rows: Rows

    def items(self) -> Items:
        """Return the postings of the rows that stay."""
        items = np.asarray(self.postings.items)
        rows = self.new_rows[(items & ROW_MASK).astype(np.int64)]
        is_kept = rows >= 0
        shift = np.uint64(ROW_BITS)
        kept: Items = (items[is_kept] >> shift << shift) | rows[is_kept].astype(np.uint64)
        return kept


def write_postings(path: Path, table: PassageTable, kept: KeptPostings | None = None) -> None:
    """Write the postings of a table; equal tables give equal bytes, whatever was kept.

    Args:
        path: the file to write.
        table: of the new generation.
        kept: the postings of its rows that another generation has.

    Raises:
        GenerationError: the table has more rows than a posting can name.
        OSError: the disk fails or is full.
    """
    if len(table) > ROW_MASK:
        raise GenerationError(f"an index holds at most {ROW_MASK} passages: split the corpus")
    is_new = np.ones(len(table), np.bool_)
    pieces = []
    if kept is not None:
        is_new[kept.new_rows[kept.new_rows >= 0]] = False
        pieces.append(kept.items())
    pieces += _postings_of(table.rows, np.flatnonzero(is_new))
    items = np.concatenate([np.empty(0, ITEM), *pieces])
    items.sort()
    with path.open("wb") as file:
        file.write(items.data)


def places_of(places: Rows, is_kept: NDArray[np.bool_]) -> Rows:
    """Return the row of each other row among the kept ones and the new; -1 if it is not kept.

    Args:
        places: for each new row, ascending, the number of other rows before it.
        is_kept: of each other row.
    """
    before: Rows = np.cumsum(is_kept) - is_kept
    added = np.searchsorted(places, np.arange(len(is_kept)), side="right")
    return np.where(is_kept, before + added, -1)


def _postings_of(rows: pa.Table, numbers: Rows) -> Iterator[Items]:
    """Yield the postings of some rows of a table, a window at a time."""
    texts = rows.select(["title", "text"])
    for start in range(0, len(numbers), WINDOW_ROWS):
        window = numbers[start : start + WINDOW_ROWS]
        columns = texts.take(pa.array(window)).to_pydict()
        pairs = zip(window.tolist(), columns["title"], columns["text"], strict=True)
        items = [
            hashed << ROW_BITS | row
            for row, title, text in pairs
            for hashed in _hashes(identifiers_of(f"{title}\n{text}"))
        ]
        yield np.array(items, ITEM)


def _hashes(keys: Iterable[str]) -> set[int]:
    return {_hash(key) for key in keys}


@lru_cache(maxsize=CACHED_KEYS)
def _hash(key: str) -> int:
    """Return the first 36 bits of a key's hash."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> ROW_BITS
