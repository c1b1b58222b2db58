"""Staging of a corpus on disk, checked and sorted, so that memory does not grow with it."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import digest_of
from service.retrieval.errors import PassageError

SCHEMA = """CREATE TABLE passages (
    passage_id TEXT PRIMARY KEY, title TEXT, text TEXT, metadata TEXT, digest BLOB, origin TEXT
) WITHOUT ROWID"""


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
        self._prepare = prepare
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(SCHEMA)
        self._connection.execute("BEGIN")
        self._count = 0
        self.deleted: set[str] = set()

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

    def add(self, origin: str, passage: Passage) -> None:
        """Add a passage.

        Raises:
            PassageError: a passage with the same id was added before; both origins are named.
        """
        metadata = json.dumps(passage.metadata, ensure_ascii=False)
        digest = digest_of(self._prepare(passage.encoder_text))
        origin = origin.encode(errors="backslashreplace").decode()  # a file name may be no UTF-8
        row = (passage.passage_id, passage.title, passage.text, metadata, digest, origin)
        try:
            self._connection.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            first = self._connection.execute(
                "SELECT origin FROM passages WHERE passage_id = ?", row[:1]
            ).fetchone()[0]
            raise PassageError(
                f"{origin} repeats the id of {first}: give one of the two passages another id"
            ) from None
        self._count += 1

    def put(self, origin: str, passage: Passage) -> None:
        """Add a passage in place of one that was added or deleted before."""
        self.delete(passage.passage_id)
        self.deleted.remove(passage.passage_id)
        self.add(origin, passage)

    def delete(self, passage_id: str) -> None:
        """Remove a passage, if it was added, and keep its id in `deleted`."""
        statement = "DELETE FROM passages WHERE passage_id = ?"
        self._count -= self._connection.execute(statement, (passage_id,)).rowcount
        self.deleted.add(passage_id)

    def passage_ids(self) -> Iterator[str]:
        """Yield all ids, in order."""
        rows = self._connection.execute("SELECT passage_id FROM passages ORDER BY passage_id")
        return (passage_id for (passage_id,) in rows)

    def windows(self, size: int) -> Iterator[list[Passage]]:
        """Yield all passages, ordered by id, `size` at a time."""
        cursor = self._connection.execute(
            "SELECT passage_id, title, text, metadata FROM passages ORDER BY passage_id"
        )
        while rows := cursor.fetchmany(size):
            yield [_passage(row) for row in rows]

    def digests(self) -> NDArray[np.void]:
        """Return the 16-byte digests of all texts, in the order of ids, [N]."""
        rows = self._connection.execute("SELECT digest FROM passages ORDER BY passage_id")
        return np.frombuffer(b"".join(digest for (digest,) in rows), "V16")

    def encoder_texts(self, positions: NDArray[np.int64]) -> Iterator[str]:
        """Yield the texts at some positions, as the encoder reads them.

        Args:
            positions: ascending, in the order of ids.
        """
        for title, text in self._at(positions, "title, text"):
            yield Passage("", text, title).encoder_text

    def origins(self, positions: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
        """Return ids and origins of the passages at some positions, ascending, read one by one."""
        return self._at(positions, "passage_id, origin")

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove the passages at some positions; they are ascending."""
        ids = list(self._at(positions, "passage_id"))
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


def _passage(row: tuple[str, str, str, str]) -> Passage:
    passage_id, title, text, metadata = row
    return Passage(passage_id, text, title, json.loads(metadata))
