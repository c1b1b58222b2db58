"""Messages between client and service: request bodies, embeddings, and errors; sends nothing.

ClientError
├── UnreachableError      no answer after the last retry
└── ProblemError          refused by the service or by a proxy
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypedDict

import httpx2
import numpy as np
from numpy.typing import NDArray

# Limits of the service's schemas, which the client does not import.
MAX_CHARACTERS = 32_768
MAX_QUERIES = 64
MAX_TEXTS = 256
# A character takes at most six bytes in JSON: within the service's default limit of 2 MiB.
MAX_REQUEST_CHARACTERS = 250_000
# A busy service on slow cores still encodes as many in a second.
CHARACTERS_PER_SECOND = 500
# For the way of an answer that was ready at its deadline.
SPARE_SECONDS = 5.0

Role = Literal["query", "passage"]
Embeddings = NDArray[np.float32]


class ClientError(Exception):
    """The service could not be reached, or refused a request."""


class UnreachableError(ClientError):
    """The service did not answer."""


class ProblemError(ClientError):
    """The service, or a proxy in front of it, refused the request."""

    def __init__(self, response: httpx2.Response) -> None:
        """Read the problem (RFC 9457) from a response, if it holds one."""
        problem = _problem(response)
        self.status = response.status_code
        self.title: str = problem.get("title") or response.reason_phrase
        self.detail: str = problem.get("detail") or "the answer has no problem+json"
        self.field: str | None = problem.get("field")
        self.request_id: str | None = response.headers.get("X-Request-Id")
        self.retry_after_seconds = retry_after_seconds(response)
        super().__init__(f"{self.status} {self.title}: {self.detail}")


class SearchOptions(TypedDict, total=False):
    """Options of `/search`; `SearchRequest` describes them."""

    top_k: int
    offset: int
    fold: Literal["duplicates"] | None
    group: Literal["document", "chunk"]
    filter: Mapping[str, Any] | None
    facets: Sequence[str]
    min_score: float | None
    min_relevance: float | None
    answer_threshold: float
    language: str | None
    include_text: bool
    evidence: bool
    timeout_ms: int


def search_bodies(queries: Sequence[str], options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the bodies of as many requests as the limits need; options of None are left out."""
    given = {name: value for name, value in options.items() if value is not None}
    for part in parts_of(queries, MAX_QUERIES):
        yield {"queries": part, **given}


def more_like_body(passage_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a search for passages like one of the index."""
    given = {name: value for name, value in options.items() if value is not None}
    return {"more_like": passage_id, **given}


def encode_bodies(texts: Sequence[str], role: Role) -> Iterator[dict[str, Any]]:
    """Yield the bodies of as many requests as the service's limits need."""
    for part in parts_of(texts, MAX_TEXTS):
        yield {"texts": part, "role": role, "encoding_format": "base64"}


def timeout_seconds_of(body: Mapping[str, Any] | None, timeout_seconds: float) -> float:
    """Return how long to wait for an answer: longer if the service has more to do or more time.

    >>> timeout_seconds_of({"texts": ["a" * 1000, "b" * 500]}, 30.0)
    33.0
    >>> timeout_seconds_of({"queries": ["a"], "timeout_ms": 60_000}, 30.0)
    65.0
    """
    body = body or {}
    if "timeout_ms" in body:
        return max(timeout_seconds, float(body["timeout_ms"]) / 1000 + SPARE_SECONDS)
    return timeout_seconds + sum(map(len, body.get("texts", ()))) / CHARACTERS_PER_SECOND


def parts_of(texts: Sequence[str], max_texts: int) -> Iterator[list[str]]:
    """Split texts into parts of limited size; a longer text is a part of its own.

    >>> list(parts_of(["a", "b", "c"], 2))
    [['a', 'b'], ['c']]
    """
    part: list[str] = []
    num_characters = 0
    for text in texts:
        is_full = len(part) == max_texts or num_characters + len(text) > MAX_REQUEST_CHARACTERS
        if part and is_full:
            yield part
            part, num_characters = [], 0
        part.append(text)
        num_characters += len(text)
    if part:
        yield part


def read_embeddings(answers: Sequence[dict[str, Any]]) -> Embeddings:
    """Read the responses of `/encode` as [B, D]; [0, 0] if there are none."""
    rows = [base64.b64decode(row) for answer in answers for row in answer["embeddings"]]
    if not rows:
        return np.zeros((0, 0), np.float32)
    return np.stack([np.frombuffer(row, "<f4") for row in rows]).astype(np.float32, copy=False)


def retry_after_seconds(response: httpx2.Response) -> float | None:
    """Read the header Retry-After, seconds or a date; None if it is missing or malformed."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _problem(response: httpx2.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
