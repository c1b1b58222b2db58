"""Messages that put, delete and read documents and passages by id, and paths; sends nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from service.client.messages import MAX_REQUEST_CHARACTERS, ClientError

MAX_DOCUMENTS = 1000
Documents = Sequence[Mapping[str, Any]]
Ids = Sequence[str | int]  # a whole number is taken as its digits


class ChangeOptions(TypedDict, total=False):
    """Options of `/documents`: whether to wait until the change is live, and for how long."""

    wait: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of documents; `generation` has it if it is applied, `reason` if it is refused."""

    number: int
    state: Literal["waiting", "applied", "refused"]
    generation: str | None
    reason: str | None

    def raise_if_refused(self) -> None:
        """Raise a `ClientError` with the reason if none of the change's documents was taken."""
        if self.state == "refused":
            raise ClientError(f"change {self.number} was refused: {self.reason}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of the index; `document_id`, `start` and `end` as in `Hit`."""

    passage_id: str
    title: str
    text: str
    metadata: dict[str, Any]
    document_id: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the live index has it (None: not yet), and the change of it that waits."""

    document: dict[str, Any] | None
    waiting_change: int | None
    generation: str


def change_bodies(put: Documents, delete: Ids, options: ChangeOptions) -> Iterator[dict[str, Any]]:
    """Yield the bodies of as many requests as the service's limits need, in order.

    >>> [len(body["put"]) for body in change_bodies([{"id": "a", "text": "t"}] * 1500, [], {})]
    [1000, 500]
    """
    body: dict[str, Any] = {"put": [], "delete": [], **options}
    num_characters = 0
    changes = [*(("put", document) for document in put), *(("delete", each) for each in delete)]
    for part, change in changes:
        size = len(str(change))
        is_full = len(body["put"]) + len(body["delete"]) == MAX_DOCUMENTS
        if num_characters and (is_full or num_characters + size > MAX_REQUEST_CHARACTERS):
            yield body
            body, num_characters = {"put": [], "delete": [], **options}, 0
        body[part].append(change)
        num_characters += size
    if num_characters:
        yield body


def as_document(document_id: str, text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document to put; of frameworks that have no titles, the metadata may hold one.

    >>> as_document("a", "t", {"title": None, "year": 1963})
    {'title': '', 'year': 1963, 'id': 'a', 'text': 't'}
    """
    return {**metadata, "title": metadata.get("title") or "", "id": document_id, "text": text}


def read_change(answer: Mapping[str, Any]) -> Change:
    """Read a response of `/documents` or `/changes/{number}`."""
    return Change(answer["change"], answer["state"], answer["generation"], answer["reason"])


def read_document(answer: Mapping[str, Any]) -> Document:
    """Read a response of `/documents/{id}`."""
    waiting = answer["waiting"]
    return Document(
        answer["document"], waiting and waiting["change"], answer["index"]["generation"]
    )


def read_passage(answer: dict[str, Any]) -> Passage:
    """Read a response of `/passages/{passage_id}`."""
    names = Passage.__dataclass_fields__
    return Passage(**{name: value for name, value in answer.items() if name in names})


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
