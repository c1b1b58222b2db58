"""Streams passages from files: JSON lines, CSV, Parquet; each alone or in folders."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from service.retrieval.corpus.columns import USUAL_IDS, Columns, take
from service.retrieval.corpus.delimited import DELIMITERS, delimited_records
from service.retrieval.corpus.fields import NO_FIELDS, Fields
from service.retrieval.corpus.files import find_files
from service.retrieval.corpus.metadata import metadata_of
from service.retrieval.corpus.parquet import parquet_records
from service.retrieval.errors import PassageError
from service.retrieval.storage.compression import STDIN, decompressed_suffix
from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.text import is_blank

AHEAD_PASSAGES = 10_000
# Of a record's keys in a message.
MAX_NAMES, MAX_NAME = 12, 40
T = TypeVar("T")
DELETE = "delete"  # the key of a record that deletes a document
OnInvalid = Callable[[PassageError], None]
OnColumns = Callable[[Path, Columns], None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a passage is from that is a part of a document: its text is `text[start:end]`."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit of retrieval: id, text, optional title and metadata."""

    passage_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chunk: Chunk | None = None
    # Of a chunk, what the encoder reads before and after it; None where it reads the chunk alone.
    around: tuple[str, str] | None = None

    @property
    def document_id(self) -> str:
        """Return the id of the document that the passage is, or is a part of."""
        return self.chunk.document_id if self.chunk else self.passage_id

    @property
    def place(self) -> dict[str, Any]:
        """Return the fields of an answer that say where a chunk is from; of a document, none."""
        return asdict(self.chunk) if self.chunk else {}

    @property
    def encoder_text(self) -> str:
        """Return the text that the encoder reads: title and text, joined as BEIR does."""
        return f"{self.title} {self.text}".strip()

    @property
    def encoded_text(self) -> str | tuple[str, str, str]:
        """Return the text that becomes the vector, between what is read with it, if anything is."""
        return (self.around[0], self.text, self.around[1]) if self.around else self.encoder_text


def no_passages(source: str = "") -> PassageError:
    """Return the error of a corpus without a passage to index."""
    place = f" in {source}" if source else ""
    return PassageError(
        f"there are no passages to index{place}: the file is empty, or all lines were refused or "
        "skipped; correct it, or name another file"
    )


def no_document_left() -> PassageError:
    """Return the error of changes that delete every document of an index."""
    return PassageError(
        "no document would be left: an index needs at least one, so keep one or put another first"
    )


def refuse(error: PassageError) -> NoReturn:
    """Raise the error of an invalid passage; the default of `on_invalid`."""
    raise error


def read_passages(path: Path, on_invalid: OnInvalid = refuse) -> Iterator[tuple[str, Passage]]:
    """Yield the passages of one path; see `read_corpus`."""
    return read_corpus([path], on_invalid)


def read_corpus(
    paths: Iterable[Path],
    on_invalid: OnInvalid = refuse,
    *,
    columns: Columns | None = None,
    fields: Fields = NO_FIELDS,
    on_columns: OnColumns = lambda file, columns: None,
) -> Iterator[tuple[str, Passage]]:
    """Yield the passages of files, each with its origin (`file:line`, in Parquet `file:row`).

    Args:
        paths: files, pipes, patterns or folders, as `find_files` takes them.
        on_invalid: called with the error of a line that cannot be used; it raises to stop, or
            returns to skip the line.
        columns: where id, text and title are; by default found by common names in each file.
        fields: metadata fields, by whose kinds the cells of CSV are read.
        on_columns: called with each file and the columns that are read.

    Raises:
        PassageError: a path names nothing readable, or, by default, a line is invalid.
    """
    return read_records(paths, passage_of, on_invalid, columns, fields, on_columns)


def read_records(
    paths: Iterable[Path],
    parse: Callable[[str, dict[str, Any], Columns], T],
    on_invalid: OnInvalid,
    columns: Columns | None,
    fields: Fields,
    on_columns: OnColumns,
) -> Iterator[tuple[str, T]]:
    """Yield what `parse` makes of each record, from its origin and the columns of its file.

    Other arguments and errors are those of `read_corpus`.
    """
    for path in find_files(paths):
        found: Columns | None = None
        for origin, record in _records(path, fields):
            try:
                value = record() if callable(record) else record
                if not isinstance(value, dict):
                    raise PassageError(
                        f"{origin} is not a JSON object with `id` and `text`: correct the line"
                    )
                if found is None:
                    names = (columns or Columns()).found_in(value)
                    if value.get(DELETE) is not True:  # a deletion names no column of a text
                        found = names
                        on_columns(path, found)
                yield origin, parse(origin, value, found or names)
            except PassageError as error:
                if path == STDIN and found is None:
                    error = PassageError(f"{error} (the standard input is read as JSON lines)")
                on_invalid(error)


def _records(path: Path, fields: Fields) -> Iterable[tuple[str, object]]:
    """Yield the records of a file; a pipe without a suffix holds JSON lines."""
    suffix = decompressed_suffix(path)
    if suffix == ".parquet":
        return parquet_records(path)
    return (
        delimited_records(path, fields)
        if suffix in DELIMITERS
        else read_json_lines(path, PassageError)
    )


def read_ahead(
    passages: Iterator[tuple[str, T]], source: str, count: int = AHEAD_PASSAGES
) -> Iterator[tuple[str, T]]:
    """Read the first passages now, so that a bad file is reported before an encoder is loaded.

    Args:
        passages: of a corpus, or changes of it.
        source: what the corpus was read from, for the error.
        count: how many passages to read now.

    Raises:
        PassageError: there are no passages; or as in `read_passages`, from the first ones.
    """
    first = list(itertools.islice(passages, count))
    if not first:
        raise no_passages(source)
    return itertools.chain(first, passages)


def taken_id(origin: str, record: dict[str, Any], columns: Columns) -> str:
    """Remove the id from a record and return it.

    Raises:
        PassageError: it is missing, blank, or no text and no whole number.
    """
    names = _names(record)
    passage_id = take(record, columns.id_in(record))
    if isinstance(passage_id, int) and not isinstance(passage_id, bool):
        passage_id = str(passage_id)
    if isinstance(passage_id, bool | float):
        raise PassageError(
            f"{origin} has the id {json.dumps(passage_id)}, which is neither text nor a whole "
            "number: make it text (in JSON, in quotes)"
        )
    if not isinstance(passage_id, str) or is_blank(passage_id):
        raise PassageError(
            f"{origin} needs a field {_id_names(columns)} with text or a whole number, and has "
            f"{names}: correct the line, or name the field with --id-field"
        )
    if "\0" in passage_id:
        raise PassageError(f"{origin} holds a NUL character in its id: remove it")
    return passage_id


def passage_of(origin: str, record: dict[str, Any], columns: Columns) -> Passage:
    """Return the passage of a record.

    Raises:
        PassageError: the id or the text is missing, or a value cannot be used.
    """
    rest = dict(record)
    passage_id = taken_id(origin, rest, columns)
    text, title = take(rest, columns.text), take(rest, columns.title)
    if not isinstance(text, str):
        raise PassageError(
            f"{origin} needs a field `{columns.text}` with text, and has {_names(record)}: correct "
            "the line, or name the field with --text-field"
        )
    if is_blank(text):
        raise PassageError(
            f"{origin} has an empty `{columns.text}` (no character is visible): remove the line or "
            "fill it"
        )
    if not isinstance(title, str | None):
        raise PassageError(f"{origin} has a `{columns.title}` that is not text: correct the line")
    for name, value in ((columns.text, text), (columns.title, title or "")):
        if "\0" in value:
            raise PassageError(f"{origin} holds a NUL character in `{name}`: remove it", name)
    metadata = metadata_of(origin, rest)
    try:
        json.dumps([passage_id, text, title, metadata], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise PassageError(
            f"{origin} holds half a surrogate pair (\\ud800-\\udfff): correct the line"
        ) from None
    return Passage(passage_id, text, title or "", metadata)


def _names(record: dict[str, Any]) -> str:
    return ", ".join(f"`{name[:MAX_NAME]}`" for name in list(record)[:MAX_NAMES]) or "none"


def _id_names(columns: Columns) -> str:
    return "`id` (or `_id`)" if columns.id in USUAL_IDS else f"`{columns.id}`"
