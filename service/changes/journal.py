"""The journal of changes: a file of records, each on the disk before it counts.

A record is a line: the CRC-32 of its JSON, a space, the JSON. A writer that is killed may leave
part of the last line, which was not acknowledged to anyone and is cut off.
"""

import errno
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from service.retrieval.errors import ArtifactError
from service.retrieval.storage import artifact

Record = dict[str, Any]
DIGITS = 8  # of a CRC-32


class JournalError(ArtifactError):
    """A journal is damaged before its end."""


class Journal:
    """An open journal; one process writes it, any of its threads."""

    def __init__(self, path: Path, play: Callable[[Record], None]) -> None:
        """Open the file, create it if missing, and cut off an incomplete last record.

        Args:
            path: the file.
            play: called with each record.

        Raises:
            JournalError: a record is damaged that is not the last one.
            OSError: the file cannot be opened or written.
        """
        self._path = path
        self._lock = threading.Lock()
        for stale in path.parent.glob(f".{path.name}.*"):  # of a `rewrite` that was killed
            stale.unlink(missing_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._is_whole = True
        self.num_bytes = 0
        try:
            for record, end in _parse(path, path.read_bytes()):
                play(record)
                self.num_bytes = end
            self._cut()
            artifact.sync(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Write records and wait until the disk has them; after an error, none of them is there.

        Raises:
            OSError: the disk is full or fails, or the file was removed.
        """
        content = b"".join(map(_line, records))
        with self._lock:
            self._check_in_place()
            if not self._is_whole:
                self._cut()
            try:
                _write(self._descriptor, content)
                os.fsync(self._descriptor)
            except OSError:
                self._is_whole = False
                self._cut()
                raise
            self.num_bytes += len(content)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all records, at once.

        Raises:
            OSError: the disk is full or fails; the journal is as it was.
        """
        content = b"".join(map(_line, records))
        with self._lock:
            artifact.replace_file(self._path, content)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)
            os.close(self._descriptor)
            self._descriptor, self.num_bytes, self._is_whole = descriptor, len(content), True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _check_in_place(self) -> None:
        """Refuse to write what no restart would read.

        Raises:
            OSError: the file, or its folder, was removed or moved away.
        """
        found = self._path.stat() if self._path.exists() else None
        if found is None or not os.path.samestat(found, os.fstat(self._descriptor)):
            raise FileNotFoundError(
                errno.ENOENT, "the journal of changes was removed: restart the service"
            )

    def _cut(self) -> None:
        """Remove what follows the last whole record."""
        os.ftruncate(self._descriptor, self.num_bytes)
        os.fsync(self._descriptor)
        self._is_whole = True


def _line(record: Record) -> bytes:
    content = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _parse(path: Path, content: bytes) -> Iterator[tuple[Record, int]]:
    """Yield each record and where it ends; stop before an incomplete last one."""
    start = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        end = start + len(line)
        digits, found = line[:DIGITS], line[DIGITS + 1 : -1]
        if not line.endswith(b"\n") or b"%08x" % zlib.crc32(found) != digits:
            if end < len(content):
                raise JournalError(
                    f"{path}:{number} is damaged, and records follow it: move the file away, and "
                    "send again the changes that are not in the index"
                )
            return
        yield json.loads(found), end
        start = end
