"""The files of a data set as a format reads them: their bytes are counted and reported.

A format opens its files with `open_source`, or with a reader that does, and names them beforehand
by `read_files` or `expect_files`, so that the total is known.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from service.retrieval.progress import OnProgress
from service.retrieval.storage.compression import open_bytes
from trainer.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Key = TypeVar("Key")
Content = TypeVar("Content")
BUFFER_BYTES = 2**17


class BytesRead:
    """The bytes that were read of some files; a file that is read twice counts once."""

    def __init__(self, on_progress: OnProgress) -> None:
        """Report to `on_progress` as the stage `read bytes`."""
        self._on_progress = on_progress
        self._sizes: dict[Path, int] = {}
        self._read: dict[Path, int] = {}

    def expect(self, paths: Iterable[Path]) -> None:
        """Add files to the total; one that is missing adds nothing, and fails where it is read."""
        for path in paths:
            if path not in self._sizes and path.is_file():
                self._sizes[path] = path.stat().st_size
        self._report()

    def reach(self, path: Path, position: int | None = None) -> None:
        """Note how far a file was read; None is its end."""
        size = self._sizes.get(path, 0)
        reached = size if position is None else min(position, size)
        if reached > self._read.get(path, 0):
            self._read[path] = reached
            self._report()

    def _report(self) -> None:
        self._on_progress("read bytes", sum(self._read.values()), sum(self._sizes.values()))


_bytes_read: ContextVar[BytesRead | None] = ContextVar("bytes_read", default=None)


@contextmanager
def report_bytes(on_progress: OnProgress) -> Iterator[None]:
    """Report what is read of source files in this context."""
    token = _bytes_read.set(BytesRead(on_progress))
    try:
        yield
    finally:
        _bytes_read.reset(token)


def expect_files(paths: Iterable[Path]) -> None:
    """Name the files that will be read, so that the total of bytes is known."""
    if (bytes_read := _bytes_read.get()) is not None:
        bytes_read.expect(paths)


def read_files(files: Mapping[Key, Path], read: Callable[[Path], Content]) -> dict[Key, Content]:
    """Read each file by a function that opens it with `open_source`."""
    expect_files(files.values())
    return {key: read(path) for key, path in files.items()}


def open_source(path: Path) -> BinaryIO:
    """Open a file of a data set to read bytes."""
    bytes_read = _bytes_read.get()
    if bytes_read is None:
        return open_bytes(path)
    bytes_read.expect([path])
    return cast(BinaryIO, io.BufferedReader(_CountedFile(path, bytes_read), BUFFER_BYTES))


class _CountedFile(io.FileIO):
    """A file that reports how far it was read; closed, it counts as read to its end."""

    def __init__(self, path: Path, bytes_read: BytesRead) -> None:
        self._path, self._bytes_read, self._count = path, bytes_read, 0
        super().__init__(path)

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        count = super().readinto(buffer)
        self._add(count or 0)
        return count

    def readall(self) -> bytes:
        content = super().readall()
        self._add(len(content or b""))
        return content

    def close(self) -> None:
        if not self.closed:
            self._bytes_read.reach(self._path)
        super().close()

    def _add(self, count: int) -> None:
        self._count += count
        self._bytes_read.reach(self._path, self._count)


def add_file(found: dict[str, Path], language: str, path: Path) -> None:
    """Add the file of a language.

    Raises:
        DataError: there is another one.
    """
    if language in found:
        raise DataError(f"{found[language]} and {path} are both {language}: remove one")
    found[language] = path
