"""What a client and the service send each other, and when to ask again; sends nothing itself.

ClientError
├── UnreachableError      no answer, and no patience left
└── ProblemError          the service's own refusal, or a proxy's
"""

import base64
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypedDict

import httpx2
import numpy as np
from numpy.typing import NDArray

# Those of the service's schemas, which a client does not import.
MAX_CHARACTERS = 32_768
MAX_QUERIES = 64
MAX_TEXTS = 256
# JSON writes a character as six bytes at the most: within the service's default of 2 MiB.
MAX_REQUEST_CHARACTERS = 250_000
RETRIED_STATUSES = {429, 502, 503}
RETRIED_ERRORS = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
)
FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 8.0

Role = Literal["query", "passage"]
Embeddings = NDArray[np.float32]


class ClientError(Exception):
    """The service could not be asked, or refused."""


class UnreachableError(ClientError):
    """No answer came from the service."""


class ProblemError(ClientError):
    """The service, or a proxy before it, refused the request."""

    def __init__(self, response: httpx2.Response) -> None:
        """Read the problem (RFC 9457) out of an answer, as far as it holds one."""
        problem = _problem(response)
        self.status = response.status_code
        self.title: str = problem.get("title") or response.reason_phrase
        self.detail: str = problem.get("detail") or "the answer has no problem+json"
        self.field: str | None = problem.get("field")
        self.request_id: str | None = response.headers.get("X-Request-Id")
        self.retry_after_seconds = retry_after_seconds(response)
        super().__init__(f"{self.status} {self.title}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found; rank 1 is the best, the score a cosine."""

    passage_id: str
    score: float
    rank: int
    title: str
    text: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a field, and how many passages have it."""

    value: str | bool | int | float
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The most frequent values of a field, and how many there are in all."""

    values: list[FacetValue]
    num_values: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One query's hits, and what answered."""

    language: str
    hits: list[Hit]
    facets: dict[str, Facet]
    generation: str
    num_passages: int
    encoder: str
    took_ms: dict[str, float]


class SearchOptions(TypedDict, total=False):
    """What `/search` takes besides the queries; `SearchRequest` describes it."""

    top_k: int
    filter: Mapping[str, Any] | None
    facets: Sequence[str]
    min_score: float | None
    language: str | None
    include_text: bool
    timeout_ms: int


def search_bodies(queries: Sequence[str], options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Lay queries out in as many requests as the service's limits need; None is left out."""
    given = {name: value for name, value in options.items() if value is not None}
    for part in parts_of(queries, MAX_QUERIES):
        yield {"queries": part, **given}


def encode_bodies(texts: Sequence[str], role: Role) -> Iterator[dict[str, Any]]:
    """Lay texts out in as many requests as the service's limits need."""
    for part in parts_of(texts, MAX_TEXTS):
        yield {"texts": part, "role": role, "encoding_format": "base64"}


def parts_of(texts: Sequence[str], max_texts: int) -> Iterator[list[str]]:
    """Cut a list so that no part has too many texts, or too many characters unless it is one text.

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


def read_results(answer: dict[str, Any]) -> list[SearchResult]:
    """Read the answer of `/search`."""
    facets = {
        name: Facet([FacetValue(**value) for value in facet["values"]], facet["num_values"])
        for name, facet in (answer.get("facets") or {}).items()
    }
    return [
        SearchResult(
            language=result["language"],
            hits=[Hit(**hit) for hit in result["hits"]],
            facets=facets,
            generation=answer["index"]["generation"],
            num_passages=answer["index"]["passages"],
            encoder=answer["encoder"],
            took_ms=answer["took_ms"],
        )
        for result in answer["results"]
    ]


def read_embeddings(answers: Sequence[dict[str, Any]]) -> Embeddings:
    """Read the answers of `/encode`, [B, D]; without any answer [0, 0]."""
    rows = [base64.b64decode(row) for answer in answers for row in answer["embeddings"]]
    if not rows:
        return np.zeros((0, 0), np.float32)
    return np.stack([np.frombuffer(row, "<f4") for row in rows]).astype(np.float32, copy=False)


@dataclass(slots=True)
class Patience:
    """How often, and for how long, one request is asked again."""

    max_retries: int
    max_wait_seconds: float
    num_retries: int = 0
    began: float = field(default_factory=time.monotonic)

    def after_refusal(self, response: httpx2.Response) -> float:
        """Tell for how many seconds to pause before asking again.

        Raises:
            ProblemError: asking again is of no use, or patience is at its end.
        """
        asked = retry_after_seconds(response)
        if response.status_code not in RETRIED_STATUSES or not self._allows(asked or 0.0):
            raise ProblemError(response)
        return self._pause(asked)

    def after_error(self, error: httpx2.TransportError) -> float:
        """Tell the same after a request that got no answer.

        Raises:
            UnreachableError: as for `after_refusal`.
        """
        if not isinstance(error, RETRIED_ERRORS) or not self._allows(0.0):
            raise UnreachableError(
                f"no answer from {error.request.url.copy_with(query=None)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._pause(None)

    def _allows(self, seconds: float) -> bool:
        waited = time.monotonic() - self.began
        return self.num_retries < self.max_retries and waited + seconds <= self.max_wait_seconds

    def _pause(self, asked: float | None) -> float:
        """Take what the service asks for; else twice as long each time, at random."""
        longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.num_retries)
        self.num_retries += 1
        return random.uniform(longest / 2, longest) if asked is None else asked


def retry_after_seconds(response: httpx2.Response) -> float | None:
    """Read the header Retry-After, seconds or a date; None where it is missing or odd."""
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
