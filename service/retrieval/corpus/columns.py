"""Which keys of a record are a passage's id, text and title."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

# Names that corpora use, the most common first.
ID_NAMES = ("id", "_id", "docid", "doc_id", "document_id", "passage_id", "pid", "uuid", "url")
TEXT_NAMES = ("text", "contents", "content", "passage", "passage_text", "body", "document")
TITLE_NAMES = ("title", "headline", "heading", "name")
USUAL_IDS = ("id", "_id")


@dataclass(frozen=True, slots=True)
class Columns:
    """The keys of id, text and title, dotted where nested; empty for one that is to be found."""

    id: str = ""
    text: str = ""
    title: str = ""

    def found_in(self, names: Iterable[str]) -> "Columns":
        """Return the columns; those that were not named are found by common names.

        A record with an id and a text of the usual names keeps all else as metadata.

        Args:
            names: the keys of a file's first record.
        """
        known = set(names)
        found_id, text = self.id or _first(ID_NAMES, known), self.text or _first(TEXT_NAMES, known)
        found = Columns(found_id or USUAL_IDS[0], text or TEXT_NAMES[0], TITLE_NAMES[0])
        titles = TITLE_NAMES[:1] if found.is_usual else TITLE_NAMES
        return replace(found, title=self.title or _first(titles, known) or TITLE_NAMES[0])

    @property
    def is_usual(self) -> bool:
        """Return whether all names are those that a passage has in our own files."""
        return (self.id in USUAL_IDS) and (self.text, self.title) == ("text", "title")

    def id_in(self, record: Mapping[str, object]) -> str:
        """Return the key of a record's id; in one file some may have `id` and others `_id`."""
        names = USUAL_IDS if self.id in USUAL_IDS else ()
        return _first(names, set(record)) or self.id

    def describe(self) -> str:
        """Return where id and text come from, as text for a message; the title may be missing."""
        title = "" if self.title == TITLE_NAMES[0] else f", title from `{self.title}`"
        return f"id from `{self.id}`, text from `{self.text}`{title}"


def _first(names: Iterable[str], known: set[str]) -> str:
    return next((name for name in names if name in known), "")


def take(record: dict[str, Any], name: str) -> Any:
    """Remove a value from a record and return it; None if it has none.

    >>> record = {"meta": {"name": "a", "page": 1}}
    >>> take(record, "meta.name"), record
    ('a', {'meta': {'page': 1}})
    """
    if name in record:
        return record.pop(name)
    head, _, rest = name.partition(".")
    inner = record.get(head)
    if not rest or not isinstance(inner, Mapping):
        return None
    record[head] = inner = dict(inner)
    return take(inner, rest)
