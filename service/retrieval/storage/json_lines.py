"""Reads JSON strictly, and JSON lines, plain or compressed, each with its origin."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from service.retrieval.storage.compression import (
    READ_ERRORS,
    decompressed,
    described,
    open_bytes,
)

MAX_DIGITS = 4300  # of a whole number, which take the square of them to read
# A string, or a word that Python reads as a number.
CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')


def read_json_lines(
    path: Path,
    error: type[Exception],
    max_line_bytes: int = -1,
    *,
    nan_is_null: bool = False,
    open_file: Callable[[Path], BinaryIO] = open_bytes,
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each line's origin (`file:line`) and a function that parses it; skip blank lines.

    A bad line raises in that function, not in the reader, so that a caller can skip the line.

    Args:
        path: the file; `.gz` and `.zst` are decompressed, `-` is the standard input.
        error: the class of the errors raised.
        max_line_bytes: a longer line is an error and is not read into memory; -1 is no limit.
        nan_is_null: read NaN as null; pandas writes it for missing values, JSON has no NaN.
        open_file: opens the file to read bytes.

    Raises:
        Exception: of the class `error`, if the file cannot be read to its end, or a line is too
            long, is not UTF-8 or is not JSON.
    """
    number = 0
    try:
        with open_file(path) as raw, decompressed(path, raw) as file:
            while line := file.readline(max_line_bytes + 1 if max_line_bytes >= 0 else -1):
                number += 1
                origin = f"{described(path)}:{number}"
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
    except FileNotFoundError:
        raise error(f"{described(path)} does not exist: correct the path") from None
    except READ_ERRORS as reason:
        raise error(
            f"{described(path)} cannot be read to its end ({reason}): restore the file from a copy"
        ) from None


def parse_json(text: str, *, nan_is_null: bool = False) -> object:
    """Parse JSON as its standard has it: no key twice in an object, no NaN, no infinity.

    Raises:
        ValueError: the text is something else; the message holds the place and the fix, and no
            value of the text.
    """

    def constant(name: str) -> None:
        if nan_is_null and name == "NaN":
            return
        start = next(found.start() for found in CONSTANT.finditer(text) if found[1] == name)
        raise ValueError(f"{name} at {_place(text, start)} is not a JSON value: write null")

    try:
        return json.loads(
            text, parse_constant=constant, parse_int=_integer, object_pairs_hook=unique_object
        )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{error.msg.removesuffix(' at')} at {_place(text, error.pos)}: correct it"
        ) from None
    except RecursionError:
        raise ValueError("it is nested too deeply: flatten it") from None


def _integer(digits: str) -> int | float:
    if len(digits) > MAX_DIGITS:
        raise ValueError(
            f"a whole number has {len(digits):,} digits, of {MAX_DIGITS:,} at most: write it in "
            "quotes, as text"
        )
    return -0.0 if digits == "-0" else int(digits)  # only a fraction has a sign at zero


def _place(text: str, position: int) -> str:
    """Return line and column of a position; a text of one line needs no number of the line."""
    line = f"line {text.count(chr(10), 0, position) + 1}, " if "\n" in text else ""
    return f"{line}column {position - text.rfind(chr(10), 0, position)}"


class RepeatedKeyError(ValueError):
    """An object has a key twice: readers of JSON differ on which value counts."""


def unique_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs of a JSON object; a hook for `json.loads`.

    Raises:
        RepeatedKeyError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise RepeatedKeyError(f"an object has the key {name[:40]!r} twice: remove one")
    return found


def _parse(origin: str, line: bytes, error: type[Exception], nan_is_null: bool) -> object:
    try:
        return parse_json(line.decode("utf-8-sig").rstrip("\r\n"), nan_is_null=nan_is_null)
    except UnicodeDecodeError as reason:
        raise error(
            f"{origin} is not UTF-8 (byte {reason.start + 1} of the line): correct the line"
        ) from None
    except ValueError as reason:
        raise error(f"{origin} is not valid JSON: {reason}") from None
