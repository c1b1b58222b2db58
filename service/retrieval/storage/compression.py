"""Files that may be compressed: `.gz` and `.zst` are read as what they hold."""

import gzip
import io
import sys
import zlib
from pathlib import Path
from typing import BinaryIO, cast

STDIN = Path("-")
SUFFIXES = (".gz", ".zst")
# What reading a file raises that is damaged or cut short.
READ_ERRORS = (OSError, EOFError, zlib.error)


def open_bytes(path: Path) -> BinaryIO:
    """Open a file to read bytes; `-` is the standard input."""
    return sys.stdin.buffer if path == STDIN else path.open("rb")


def decompressed(path: Path, raw: BinaryIO) -> BinaryIO:
    """Return the stream of what a file holds, by its suffix; close both."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if path.suffix == ".zst":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        return cast(BinaryIO, io.BufferedReader(stream))
    return raw


def described(path: Path) -> str:
    """Return a file as messages name it."""
    return "stdin" if path == STDIN else str(path)


def decompressed_suffix(path: Path) -> str:
    """Return the suffix of what a file holds.

    >>> decompressed_suffix(Path("passages.jsonl.gz"))
    '.jsonl'
    """
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return Path(name).suffix
