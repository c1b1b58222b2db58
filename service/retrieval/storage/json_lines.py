"""Reads JSON lines, plain or gzip; each line comes with its origin, and is parsed on request."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast


def read_json_lines(
    path: Path, error: type[Exception], max_line_bytes: int = -1, *, nan_is_null: bool = False
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each line's origin (`file:line`) and a function that parses it; skip blank lines.

    A bad line raises in that function, not in the reader, so that a caller can skip the line.

    Args:
        path: the file; `.gz` is decompressed.
        error: the class of the errors raised.
        max_line_bytes: a longer line is an error and is not read into memory; -1 is no limit.
        nan_is_null: read NaN as null; pandas writes it for missing values, JSON has no NaN.

    Raises:
        Exception: of the class `error`, if the file cannot be read to its end, or a line is too
            long, is not UTF-8 or is not JSON.
    """
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(max_line_bytes + 1 if max_line_bytes >= 0 else -1):
                number += 1
                origin = f"{path}:{number}"
                if 0 <= max_line_bytes < len(line):
                    raise error(
                        f"{origin} is longer than {max_line_bytes:,} bytes: "
                        "is a line break missing?"
                    )
                if line.strip():
                    yield (
                        origin,
                        lambda line=line, origin=origin: _parse(origin, line, error, nan_is_null),  # type: ignore[misc]
                    )
    except (OSError, EOFError, zlib.error) as reason:
        raise error(f"{path} cannot be read to its end: {reason}") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _parse(origin: str, line: bytes, error: type[Exception], nan_is_null: bool) -> object:
    def constant(name: str) -> None:
        if nan_is_null and name == "NaN":
            return
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=constant)
    except UnicodeDecodeError as reason:
        raise error(f"{origin} is not UTF-8 (byte {reason.start + 1} of the line)") from None
    except (ValueError, RecursionError) as reason:
        detail = reason.msg if isinstance(reason, json.JSONDecodeError) else "not a JSON value"
        raise error(f"{origin} is not valid JSON: {detail}") from None
