"""Streams passages from files: JSON lines, BEIR's `corpus.jsonl`, Parquet."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from service.retrieval.corpus.parquet import Unreadable, parquet_records
from service.retrieval.errors import PassageError
from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.text import is_blank

AHEAD_PASSAGES = 10_000
# Of metadata: the parsers of clients have such limits, too.
MAX_DEPTH = 64
OnInvalid = Callable[[PassageError], None]


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit of retrieval: id, text, optional title and metadata."""

    passage_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoder_text(self) -> str:
        """Return the text that the encoder reads: title and text, joined as BEIR does."""
        return f"{self.title} {self.text}".strip()


def no_passages(path: Path | None = None) -> PassageError:
    """Return the error of a corpus, or a file of one, without a passage to index."""
    place = f" in {path}" if path else ""
    return PassageError(
        f"there are no passages to index{place}: the file is empty or all were skipped, "
        "name another file"
    )


def refuse(error: PassageError) -> NoReturn:
    """Raise the error of an invalid passage; the default of `on_invalid`."""
    raise error


def read_passages(path: Path, on_invalid: OnInvalid = refuse) -> Iterator[tuple[str, Passage]]:
    """Yield a file's passages, each with its origin (`file:line`, in Parquet `file:row`).

    Args:
        path: `.jsonl` (also `.ndjson`, `.gz`), `.parquet`, or a folder holding `corpus.jsonl`.
        on_invalid: called with the error of a line that cannot be used; it raises to stop, or
            returns to skip the line.

    Raises:
        PassageError: the file is missing or of another kind, or, by default, a line is invalid.
    """
    if path.is_dir():
        folder, path = path, path / "corpus.jsonl"
        if not path.exists():
            raise PassageError(
                f"{folder} is a folder without corpus.jsonl: name a .jsonl or .parquet file of "
                "passages"
            )
    if path.is_dir():
        raise PassageError(f"{path} is a folder: name a .jsonl or .parquet file of passages")
    if not path.is_file():
        raise PassageError(f"{path} does not exist: name a .jsonl or .parquet file of passages")
    records: Iterable[tuple[str, object]]
    if path.suffix == ".parquet":
        records = parquet_records(path)
    elif path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        records = read_json_lines(path, PassageError)
    else:
        raise PassageError(
            f"{path} is neither .jsonl (or .jsonl.gz) nor .parquet: convert it to one of them"
        )
    for origin, record in records:
        try:
            yield origin, _passage(origin, record() if callable(record) else record)
        except PassageError as error:
            on_invalid(error)


def read_ahead(
    passages: Iterator[tuple[str, Passage]], path: Path, count: int = AHEAD_PASSAGES
) -> Iterator[tuple[str, Passage]]:
    """Read the first passages now, so that a bad file is reported before an encoder is loaded.

    Args:
        passages: of the file.
        path: the file, for the error.
        count: how many passages to read now.

    Raises:
        PassageError: there are no passages; or as in `read_passages`, from the first ones.
    """
    first = list(itertools.islice(passages, count))
    if not first:
        raise no_passages(path)
    return itertools.chain(first, passages)


def _passage(origin: str, record: object) -> Passage:
    if not isinstance(record, dict):
        raise PassageError(f"{origin} is not a JSON object with `id` and `text`: correct the line")
    rest = dict(record)
    id_field = "id" if "id" in rest else "_id"
    passage_id, text, title = (
        rest.pop(id_field, None),
        rest.pop("text", None),
        rest.pop("title", ""),
    )
    if isinstance(passage_id, int) and not isinstance(passage_id, bool):
        passage_id = str(passage_id)
    if not isinstance(passage_id, str) or is_blank(passage_id):
        raise PassageError(
            f"{origin} needs a field `id` (or `_id`) with text or a whole number: correct the line"
        )
    if not isinstance(text, str):
        raise PassageError(f"{origin} needs a field `text` with text: correct the line")
    if is_blank(text):
        raise PassageError(
            f"{origin} has an empty `text` (no character is visible): remove the line or fill it"
        )
    if not isinstance(title, str | None):
        raise PassageError(f"{origin} has a `title` that is not text: correct the line")
    merged = _merged(origin, rest)
    metadata = {name: _json_value(origin, name, value) for name, value in merged.items()}
    try:
        json.dumps([passage_id, text, title, metadata], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise PassageError(
            f"{origin} holds half a surrogate pair (\\ud800-\\udfff): correct the line"
        ) from None
    return Passage(passage_id, text, title or "", metadata)


def _merged(origin: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return all metadata of a record; BEIR nests it in `metadata`."""
    nested = record.get("metadata")
    if not isinstance(nested, dict):
        return record
    beside = {name: value for name, value in record.items() if name != "metadata"}
    for name in beside.keys() & nested.keys():
        if beside[name] != nested[name]:
            raise PassageError(
                f"{origin} has two values of `{name}`, one in `metadata`: remove one of them"
            )
    return beside | nested


def _json_value(origin: str, name: str, value: object, depth: int = 1) -> Any:
    """Return a metadata value, which must be one that JSON can hold."""
    if depth > MAX_DEPTH:
        raise PassageError(
            f"{origin} has metadata `{name}` nested deeper than {MAX_DEPTH} levels: flatten it"
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
    raise PassageError(f"{origin} has metadata `{name}` that JSON cannot hold ({reason})")
