"""Messages of the client that put, delete and read documents, and paths by id; sends nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from service.client.messages import MAX_REQUEST_CHARACTERS

MAX_DOCUMENTS = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """A change of documents; `generation` has it if it is applied, `reason` if it is refused."""

    number: int
    state: Literal["waiting", "applied", "refused"]
    generation: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the live index has it (None: not yet), and the change of it that waits."""

    document: dict[str, Any] | None
    waiting_change: int | None
    generation: str


def change_bodies(
    put: Sequence[Mapping[str, Any]], delete: Sequence[str], wait: bool
) -> Iterator[dict[str, Any]]:
    """Yield the bodies of as many requests as the service's limits need, in order.

    >>> [len(body["put"]) for body in change_bodies([{"id": "a", "text": "t"}] * 1500, [], False)]
    [1000, 500]
    """
    body: dict[str, Any] = {"put": [], "delete": [], "wait": wait}
    num_characters = 0
    changes = [*(("put", document) for document in put), *(("delete", each) for each in delete)]
    for part, change in changes:
        size = len(str(change))
        is_full = len(body["put"]) + len(body["delete"]) == MAX_DOCUMENTS
        if num_characters and (is_full or num_characters + size > MAX_REQUEST_CHARACTERS):
            yield body
            body, num_characters = {"put": [], "delete": [], "wait": wait}, 0
        body[part].append(change)
        num_characters += size
    if num_characters:
        yield body


def read_change(answer: Mapping[str, Any]) -> Change:
    """Read a response of `/documents` or `/changes/{number}`."""
    return Change(answer["change"], answer["state"], answer["generation"], answer["reason"])


def read_document(answer: Mapping[str, Any]) -> Document:
    """Read a response of `/documents/{id}`."""
    waiting = answer["waiting"]
    return Document(
        answer["document"], waiting and waiting["change"], answer["index"]["generation"]
    )


def document_path(document_id: str) -> str:
    """Return the path of a document."""
    return f"/documents/{_quoted(document_id)}"


def passage_path(passage_id: str) -> str:
    """Return the path of a passage.

    >>> passage_path("a/b"), passage_path("v1.2"), passage_path("..")
    ('/passages/a%2Fb', '/passages/v1.2', '/passages/%2E%2E')
    """
    return f"/passages/{_quoted(passage_id)}"


def _quoted(name: str) -> str:
    """Return an id as one part of a path; the ids `.` and `..` would be steps in it."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")
