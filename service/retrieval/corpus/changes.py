"""Changes of a corpus: documents to put, and ids of documents to delete."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.corpus.columns import Columns, take
from service.retrieval.corpus.fields import NO_FIELDS, Fields
from service.retrieval.corpus.reader import (
    DELETE,
    OnColumns,
    OnInvalid,
    Passage,
    passage_of,
    read_records,
    refuse,
    taken_id,
)
from service.retrieval.errors import PassageError


@dataclass(frozen=True, slots=True)
class Change:
    """A document to put in place of any of this id; None deletes that one."""

    document_id: str
    document: Passage | None = None


def read_changes(
    paths: Iterable[Path],
    on_invalid: OnInvalid = refuse,
    *,
    columns: Columns | None = None,
    fields: Fields = NO_FIELDS,
    on_columns: OnColumns = lambda file, columns: None,
) -> Iterator[tuple[str, Change]]:
    """Yield the changes of files, each with its origin, in the order in which they happened.

    A record with `"delete": true` deletes the document of its id; any other one is a document to
    put, as `read_corpus` reads it. Arguments and errors are those of `read_corpus`.
    """
    return read_records(paths, _change, on_invalid, columns, fields, on_columns)


def _change(origin: str, record: dict[str, Any], columns: Columns) -> Change:
    rest = dict(record)
    is_deletion = take(rest, DELETE)
    if not isinstance(is_deletion, bool | None):
        raise PassageError(f"{origin} has a `{DELETE}` that is not true or false: correct the line")
    if is_deletion:
        return Change(taken_id(origin, rest, columns))
    document = passage_of(origin, rest, columns)
    return Change(document.passage_id, document)
