"""Metadata of a passage: what a record holds besides id, text and title, as JSON values."""

import math
from typing import Any

from service.retrieval.corpus.parquet import Unreadable
from service.retrieval.errors import PassageError

# The parsers of clients have such limits, too.
MAX_DEPTH = 64


def metadata_of(origin: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a record without id, text and title.

    Raises:
        PassageError: JSON cannot hold a value, or a key has two values.
    """
    merged = _merged(origin, record)
    return {name: _json_value(origin, name, value) for name, value in merged.items()}


def _merged(origin: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return all metadata of a record; BEIR nests it in `metadata`."""
    nested = record.get("metadata")
    if not isinstance(nested, dict):
        return record
    beside = {name: value for name, value in record.items() if name != "metadata"}
    for name in beside.keys() & nested.keys():
        if beside[name] != nested[name]:
            raise PassageError(
                f"{origin} has two values of `{name}`, one in `metadata`: remove one of them",
                name,
            )
    return beside | nested


def _json_value(origin: str, name: str, value: object, depth: int = 1) -> Any:
    """Return a metadata value, which must be one that JSON can hold."""
    if depth > MAX_DEPTH:
        raise PassageError(
            f"{origin} has metadata `{name}` nested deeper than {MAX_DEPTH} levels: flatten it",
            name,
        )
    match value:
        case None | str() | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [_json_value(origin, name, item, depth + 1) for item in value]
        case dict():
            return {key: _json_value(origin, name, item, depth + 1) for key, item in value.items()}
    reason = value.reason if isinstance(value, Unreadable) else f"{value}: write a smaller number"
    raise PassageError(f"{origin} has metadata `{name}` that JSON cannot hold ({reason})", name)
