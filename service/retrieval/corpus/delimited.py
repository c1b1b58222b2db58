"""Reads CSV and TSV files as records: a header, then a row a passage.

A cell is text. A field that is declared as a number, a boolean or a list is read as one; an empty
cell is a missing value.
"""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from service.retrieval.corpus.fields import NO_FIELDS, FieldKind, Fields
from service.retrieval.errors import PassageError
from service.retrieval.storage.compression import (
    READ_ERRORS,
    decompressed,
    decompressed_suffix,
    described,
    open_bytes,
)
from service.retrieval.storage.json_lines import parse_json

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHER_DELIMITERS = re.compile(r"[,;|\t]")


def delimited_records(
    path: Path, fields: Fields = NO_FIELDS
) -> Iterator[tuple[str, Callable[[], dict[str, object]]]]:
    """Yield each row's origin (`file:line`) and a function that parses it.

    A bad row raises in that function, not in the reader, so that a caller can skip the row.

    Raises:
        PassageError: the file cannot be read to its end, a quote is not closed, there is no header,
            or it has a name twice.
    """
    csv.field_size_limit(sys.maxsize)  # a cell may hold a whole document
    name = described(path)
    line = 1
    try:
        with open_bytes(path) as raw, decompressed(path, raw) as file:
            # Bytes that are not UTF-8 become surrogates, which the row's own check refuses.
            text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
            rows = csv.reader(text, delimiter=DELIMITERS[decompressed_suffix(path)], strict=True)
            header = _header(next(rows, []), name)
            line = rows.line_num + 1
            while (row := next(rows, None)) is not None:
                if row:  # not a blank line
                    yield f"{name}:{line}", partial(_record, f"{name}:{line}", header, row, fields)
                line = rows.line_num + 1
    except csv.Error as error:
        raise PassageError(
            f"{name}:{line} is not valid CSV ({error}): close the quote in or before this row"
        ) from None
    except READ_ERRORS as error:
        raise PassageError(
            f"{name} cannot be read to its end ({error}): restore the file from a copy"
        ) from None


def _header(names: list[str], file: str) -> list[str]:
    if not names:
        raise PassageError(f"{file} has no header: name the columns in the first line")
    _check_utf_8(f"{file}:1", names)
    if len(names) == 1 and (found := OTHER_DELIMITERS.search(names[0])):
        raise PassageError(
            f"{file} has one column, {names[0][:80]!r}: separate columns by commas in .csv and by "
            f"tabs in .tsv, not by {found[0]!r}"
        )
    for name in names:
        if names.count(name) > 1:
            raise PassageError(f"{file} has two columns `{name}`: rename one of them")
    return names


def _check_utf_8(origin: str, row: list[str]) -> None:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        raise PassageError(f"{origin} is not UTF-8: save the file as UTF-8") from None


def _record(origin: str, header: list[str], row: list[str], fields: Fields) -> dict[str, object]:
    if len(row) > len(header):
        raise PassageError(
            f"{origin} has {len(row)} cells, and the header {len(header)}: quote a cell that holds "
            "the delimiter"
        )
    _check_utf_8(origin, row)
    return {
        name: _value(cell, fields.get(name, "string"))
        for name, cell in zip(header, row, strict=False)
        if cell
    }


def _value(cell: str, kind: FieldKind) -> object:
    """Return a cell as a value of its field's kind; as text where it is none."""
    if kind in ("string", "date"):
        return cell
    try:
        return parse_json(cell.lower() if kind == "boolean" else cell)
    except ValueError:
        return cell
