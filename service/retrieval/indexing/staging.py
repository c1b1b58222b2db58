"""Staging of a corpus on disk, checked and sorted, so that memory does not grow with it."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.chunks.chunking import AFTER_SEPARATOR, SEPARATOR
from service.retrieval.corpus.duplicates import (
    KEY_BYTES,
    MAX_NAMED,
    NO_KEY,
    Duplicate,
    Duplicates,
    repeated_rows,
)
from service.retrieval.corpus.reader import Chunk, Passage
from service.retrieval.encoder.bulk import digest_of, digest_of_part
from service.retrieval.encoder.parts import EncodedText
from service.retrieval.errors import PassageError, quoted

SCHEMA = """CREATE TABLE passages (
    passage_id TEXT PRIMARY KEY, title TEXT, text TEXT, metadata TEXT, digest BLOB, origin TEXT,
    document_id TEXT, start INTEGER, end INTEGER, before TEXT, after TEXT, text_key BLOB
) WITHOUT ROWID"""
INSERT = "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Between these bounds are the ids of a document's chunks, and ids that look like them.
DELETE_CHUNKS = "DELETE FROM passages WHERE passage_id >= ? AND passage_id < ? AND document_id = ?"


class StagedPassages:
    """Passages in a temporary SQLite file: unique by id, read back in the order of ids.

    Because of this order, an index does not depend on the order of its passages file.
    """

    def __init__(self, path: Path, prepare: Callable[[str], str]) -> None:
        """Create the file; SQLite's page cache has a fixed size.

        Args:
            path: the file.
            prepare: prepares a text for the encoder; digests are those of prepared texts.
        """
        self.prepare = prepare
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(SCHEMA)
        self._connection.execute("BEGIN")
        self._count = 0
        self.touched: set[str] = set()  # documents that were put or deleted
        self.has_chunks = False

    def __enter__(self) -> Self:
        """Return the passages; leaving the context closes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._connection.close()

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._count

    def add(self, origin: str, passage: Passage, key: bytes = NO_KEY) -> None:
        """Add a passage.

        Args:
            origin: where it is from.
            passage: a document, or a chunk of one.
            key: the `text_key` of the document, if the passage begins it.

        Raises:
            PassageError: a passage with the same id was added before; both origins are named.
        """
        metadata = json.dumps(passage.metadata, ensure_ascii=False)
        digest = self._digest(passage.encoded_text)
        origin = origin.encode(errors="backslashreplace").decode()  # a file name may be no UTF-8
        row = (passage.passage_id, passage.title, passage.text, metadata, digest, origin)
        chunk = passage.chunk
        place = (chunk.document_id, chunk.start, chunk.end) if chunk else (None, None, None)
        try:
            around = passage.around or (None, None)
            self._connection.execute(INSERT, (*row, *place, *around, key))
        except sqlite3.IntegrityError:
            first, first_document = self._connection.execute(
                "SELECT origin, ifnull(document_id, passage_id) FROM passages WHERE passage_id = ?",
                row[:1],
            ).fetchone()
            if first_document != passage.document_id:  # one of the two is a chunk
                name = quoted(passage.passage_id)
                clash = (
                    f"of one of its chunks is that of {first}"
                    if chunk
                    else f"is that of a chunk of another document, {first}"
                )
                raise PassageError(
                    f"{origin}: the id {name} {clash}: give one of the two documents another id"
                ) from None
            raise PassageError(
                f"{origin} repeats the id of {first}: give one of the two passages another id"
            ) from None
        self._count += 1
        self.has_chunks |= chunk is not None

    def _digest(self, text: EncodedText) -> bytes:
        if isinstance(text, str):
            return digest_of(self.prepare(text))
        return digest_of_part(*map(self.prepare, text))

    def put(self, origin: str, document_id: str, passages: Iterable[Passage]) -> None:
        """Add the passages of a document in place of any that were added before."""
        self.delete(document_id)
        for passage in passages:
            self.add(origin, passage)

    def delete(self, document_id: str) -> None:
        """Remove the passages of a document, if it was added, and note it in `touched`."""
        statement = "DELETE FROM passages WHERE passage_id = ? AND document_id IS NULL"
        self._count -= self._connection.execute(statement, (document_id,)).rowcount
        if self.has_chunks:
            names = (f"{document_id}{SEPARATOR}", f"{document_id}{AFTER_SEPARATOR}", document_id)
            self._count -= self._connection.execute(DELETE_CHUNKS, names).rowcount
        self.touched.add(document_id)

    def holds_chunks(self) -> bool:
        """Return whether any passage is a chunk."""
        statement = "SELECT 1 FROM passages WHERE document_id IS NOT NULL LIMIT 1"
        return self.has_chunks and self._connection.execute(statement).fetchone() is not None

    def passage_ids(self) -> Iterator[str]:
        """Yield all ids, in order."""
        rows = self._connection.execute("SELECT passage_id FROM passages ORDER BY passage_id")
        return (passage_id for (passage_id,) in rows)

    def windows(self, size: int) -> Iterator[list[Passage]]:
        """Yield all passages, ordered by id, `size` at a time."""
        cursor = self._connection.execute(
            "SELECT passage_id, title, text, metadata, document_id, start, end FROM passages "
            "ORDER BY passage_id"
        )
        while rows := cursor.fetchmany(size):
            yield [_passage(row) for row in rows]

    def digests(self) -> NDArray[np.void]:
        """Return the 16-byte digests of all texts, in the order of ids, [N]."""
        rows = self._connection.execute("SELECT digest FROM passages ORDER BY passage_id")
        return np.frombuffer(b"".join(digest for (digest,) in rows), "V16")

    def duplicates(self) -> Duplicates:
        """Return the documents whose `text_key` a document before them in the order of ids has."""
        found = self._connection.execute("SELECT text_key FROM passages ORDER BY passage_id")
        keys = np.frombuffer(b"".join(key for (key,) in found), f"V{KEY_BYTES}")
        rows, firsts = repeated_rows(keys)
        named = list(zip(rows[:MAX_NAMED].tolist(), firsts[:MAX_NAMED].tolist(), strict=True))
        wanted = np.unique(np.array(named, np.int64))
        columns = "ifnull(document_id, passage_id), origin"
        places = dict(zip(wanted.tolist(), self._at(wanted, columns), strict=True))
        return Duplicates(
            len(rows), [Duplicate(*places[row], *places[first]) for row, first in named]
        )

    def encoded_texts(self, positions: NDArray[np.int64]) -> Iterator[EncodedText]:
        """Yield the texts at some positions, as the encoder reads them.

        Args:
            positions: ascending, in the order of ids.
        """
        for title, text, before, after in self._at(positions, "title, text, before, after"):
            around = None if before is None else (before, after)
            yield Passage("", text, title, around=around).encoded_text

    def origins(self, positions: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
        """Return ids and origins of the passages at some positions, ascending, read one by one."""
        return self._at(positions, "passage_id, origin")

    def origin_of(self, position: int) -> str:
        """Return the origin of the passage at a position."""
        [(_, origin)] = self.origins(np.array([position]))
        return origin

    def with_siblings(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions, ascending, and those of the other chunks of their documents."""
        found = {document for (document,) in self._at(positions, "document_id")} - {None}
        if not found:
            return positions
        rows = self._connection.execute("SELECT document_id FROM passages ORDER BY passage_id")
        chunks = [row for row, (document,) in enumerate(rows) if document in found]
        return np.union1d(positions, np.array(chunks, np.int64))

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove the passages at some positions, ascending: their documents stay as they were."""
        ids = list(self._at(positions, "passage_id"))
        documents = self._at(positions, "ifnull(document_id, passage_id)")
        self.touched -= {document for (document,) in documents}
        self._connection.executemany("DELETE FROM passages WHERE passage_id = ?", ids)
        self._count -= len(ids)

    def _at(self, positions: NDArray[np.int64], columns: str) -> Iterator[Any]:
        wanted = iter(positions.tolist())
        position = next(wanted, None)
        if position is None:
            return
        rows = self._connection.execute(f"SELECT {columns} FROM passages ORDER BY passage_id")
        for number, row in enumerate(rows):
            if number == position:
                yield row
                if (position := next(wanted, None)) is None:
                    return


def _passage(row: tuple[str, str, str, str, str | None, int, int]) -> Passage:
    passage_id, title, text, metadata, document_id, start, end = row
    chunk = None if document_id is None else Chunk(document_id, start, end)
    return Passage(passage_id, text, title, json.loads(metadata), chunk)
