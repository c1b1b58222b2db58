"""Metadata fields that an index declares, by which hits can be filtered and counted.

| kind | a passage's value |
|---|---|
| `string` | text |
| `number` | a number; whole numbers up to 2^53 |
| `boolean` | true or false |
| `strings` | a list of texts |
| `date` | a date or a time in ISO 8601; its digits beyond microseconds are dropped |

A passage may lack any of them.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from service.retrieval.corpus.dates import FORM, format_date, is_date, parse_date
from service.retrieval.errors import PassageError, RetrievalError
from service.retrieval.storage.json_lines import parse_json

FieldKind = Literal["string", "number", "boolean", "strings", "date"]
Fields = Mapping[str, FieldKind]
NO_FIELDS: Fields = MappingProxyType({})
KINDS: tuple[FieldKind, ...] = get_args(FieldKind)
KINDS_BY_WORD: dict[str, FieldKind] = {
    **{kind: kind for kind in KINDS},
    **{"str": "string", "int": "number", "float": "number", "bool": "boolean", "datetime": "date"},
}
# The parts of a passage; all other keys of a line are metadata.
RESERVED = {"id", "_id", "text", "title", "metadata"}
# Above it, float64 does not represent each whole number.
MAX_WHOLE_NUMBER = 2**53


def parse_fields(declarations: Iterable[str]) -> dict[str, FieldKind]:
    """Parse declarations of fields.

    Args:
        declarations: each `NAME:KIND`, or a `.toml` or `.json` file that maps names to kinds.

    Raises:
        RetrievalError: a declaration has another form, a kind is unknown, or a name is repeated.

    >>> parse_fields(["year:int", "country:string"])
    {'year': 'number', 'country': 'string'}
    """
    fields: dict[str, FieldKind] = {}
    for declaration in declarations:
        for name, word in _pairs(declaration):
            if name in RESERVED:
                raise RetrievalError(
                    f"the field {name!r} is part of every passage: declare another"
                )
            if name in fields:
                raise RetrievalError(f"the field {name!r} is declared twice: keep one")
            if word not in KINDS_BY_WORD:
                raise RetrievalError(
                    f"the field {name!r} has the kind {word!r}: use one of {', '.join(KINDS)}"
                )
            fields[name] = KINDS_BY_WORD[word]
    return fields


def checked_values(origin: str, metadata: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the values of the declared fields in a passage's metadata; None for a missing one.

    A date has the one form of `format_date`.

    Raises:
        PassageError: a value does not have its field's kind.
    """
    values = {name: metadata.get(name) for name in fields}
    for name, value in values.items():
        if value is not None and not is_of_kind(value, fields[name]):
            raise PassageError(
                f"{origin} has a `{name}` that is not a {_described(fields[name])}: correct it, "
                f"or declare the field as another kind ({', '.join(KINDS)})",
                name,
            )
        if value is not None and fields[name] == "date":
            values[name] = format_date(parse_date(value))
    return values


def is_of_kind(value: object, kind: FieldKind) -> bool:
    """Return whether a value has a kind.

    >>> is_of_kind(True, "number"), is_of_kind([], "strings"), is_of_kind("a", "strings")
    (False, True, False)
    """
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return _is_number(value)
        case "date":
            return isinstance(value, str) and is_date(value)
        case "strings":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)


def describe_fields(fields: Fields) -> str:
    """Return fields and their kinds as text for a message."""
    return ", ".join(f"{name} ({kind})" for name, kind in fields.items()) or "none"


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_WHOLE_NUMBER


def _described(kind: FieldKind) -> str:
    descriptions = {
        "number": "number (whole numbers up to 2^53)",
        "strings": "list of strings",
        "date": f"date ({FORM}, years 1 to 9999)",
    }
    return descriptions.get(kind, kind)


def _pairs(declaration: str) -> list[tuple[str, str]]:
    path = Path(declaration)
    if path.suffix in (".toml", ".json"):
        return _file_pairs(path)
    name, separator, word = declaration.rpartition(":")
    if not name or not separator:
        raise RetrievalError(
            f"the field {declaration!r} has no kind: write NAME:KIND, such as year:number "
            f"({', '.join(KINDS)}), or name a .toml or .json file"
        )
    return [(name, word)]


def _file_pairs(path: Path) -> list[tuple[str, str]]:
    load = tomllib.loads if path.suffix == ".toml" else parse_json
    try:
        content = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RetrievalError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RetrievalError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(kind, str) for kind in content.values()):
        raise RetrievalError(f'{path} must map names to kinds, such as {{"year": "number"}}')
    return list(content.items())
