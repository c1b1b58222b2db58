"""Errors as application/problem+json (RFC 9457); nothing that a user sent is repeated."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    TABLE,
    BatchFailedError,
    ClientGoneError,
    ContentEncodingError,
    ContentTooLargeError,
    InvalidRequestError,
    MalformedError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
)
from service.retrieval.errors import FilterError, RetrievalError
from service.telemetry.logs import REQUEST_ID

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:clear-search:problem:"
MAX_FIELD_CHARACTERS = 100
PLAIN_ENCODINGS = (b"", b"identity")
# A key of the message that begins an answer: why it is a refusal, for whoever counts.
REASON = "clear.reason"

DETAILS: dict[type[RequestError], str] = {
    MalformedError: "the body is not valid JSON in UTF-8",
    NotFoundError: "there is no such path: see /docs",
    MethodNotAllowedError: "the path does not take this method: see /docs",
    ContentTooLargeError: "the body is larger than this service accepts (CLEAR_MAX_BODY_BYTES)",
}


class ProblemResponse(Response):
    """One error, as the table has it."""

    media_type = MEDIA_TYPE

    def __init__(
        self, error: RequestError, field: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        """Write it."""
        self._reason = error.reason
        body = problem_of(error, field)
        super().__init__(to_json(body), error.status, {**headers, **error.headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, with its reason for those who count."""

        async def send_with_reason(message: Message) -> None:
            message[REASON] = self._reason
            await send(message)

        await super().__call__(scope, receive, send_with_reason)


def problem_of(error: RequestError, field: str | None = None) -> dict[str, object]:
    """Lay an error out as RFC 9457 has it."""
    kind = type(error)
    return {
        "type": problem_type(kind),
        "title": kind.title,
        "status": kind.status,
        "detail": str(error),
        **({"field": field} if field else {}),
        **({"request_id": found} if (found := REQUEST_ID.get()) else {}),
    }


def problem_type(kind: type[RequestError]) -> str:
    """Name a kind of error for programs.

    >>> problem_type(MalformedError)
    'urn:clear-search:problem:malformed-request'
    """
    return TYPE_PREFIX + kind.title.lower().replace(" ", "-")


class BodyLimit:
    """ASGI middleware that refuses a body over the limit, declared or not, and a compressed one."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap an app."""
        self._app = app
        self._max_bytes = max_bytes
        self._limited = RequestBodyLimitMiddleware(app, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; starlette's plain 413 becomes a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = []
        for name, value in scope["headers"]:
            if name == b"content-length":
                lengths.append(value)
            elif name == b"content-encoding" and value.strip().lower() not in PLAIN_ENCODINGS:
                error = ContentEncodingError("send the body as it is, without Content-Encoding")
                await ProblemResponse(error, "body")(scope, receive, send)
                return
        if len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= self._max_bytes:
            await self._app(scope, receive, send)  # the server reads no more than is declared
        else:
            await self._limit(scope, receive, send)

    async def _limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = False

        async def send_problem(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_refused = True
                error = ContentTooLargeError(DETAILS[ContentTooLargeError])
                await ProblemResponse(error, "body")(scope, receive, send)
            if not is_refused:
                await send(message)

        await self._limited(scope, receive, send_problem)


def install_problems(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(RetrievalError, _on_retrieval_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return ProblemResponse(error)


async def _on_retrieval_error(request: Request, error: Exception) -> Response:
    if isinstance(error, FilterError):
        field = _printable(error.field)
        return ProblemResponse(InvalidRequestError(f"{field}: {error.reason}"), field)
    return ProblemResponse(InvalidRequestError(str(error)))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Find the table's entry for what the framework refused."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ClientDisconnect):  # while the body was read
        return ProblemResponse(ClientGoneError("the client closed the connection"))
    if error.status_code == MalformedError.status:
        return _malformed(DETAILS[MalformedError])
    kinds = (kind for kind in TABLE if kind.status == error.status_code)
    kind = next(kinds, BatchFailedError)
    return ProblemResponse(kind(DETAILS.get(kind, kind.meaning)), headers=error.headers or {})


async def _on_bug(request: Request, error: Exception) -> Response:
    return ProblemResponse(
        BatchFailedError("the service failed; its log names the cause"),
        headers={"X-Request-Id": REQUEST_ID.get()},
    )


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _malformed(DETAILS[MalformedError])
    path = _printable(first.get("ctx", {}).get("field") or "") or _field_path(first["loc"])
    if path == "body":
        return _malformed(_body_detail(request, first))
    return ProblemResponse(InvalidRequestError(f"{path}: {first['msg']}"), path)


def _malformed(detail: str) -> Response:
    return ProblemResponse(MalformedError(detail), "body")


def _body_detail(request: Request, error: dict[str, Any]) -> str:
    if error["type"] == "missing":
        return "the body is empty: send a JSON object"
    if error["type"] == "string_unicode":
        return "the name of a field holds half a surrogate pair"
    if "json" not in request.headers.get("content-type", ""):
        return "send a JSON object with the header Content-Type: application/json"
    return "the body must be a JSON object"


def _field_path(location: Sequence[int | str]) -> str:
    """Write a pydantic location as a path, such as `queries[3]`.

    >>> _field_path(("body", "queries", 3))
    'queries[3]'
    """
    path = ""
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return _printable(path) or "body"


def _printable(path: str) -> str:
    """Keep a path, in which a user's own names may be, to one short line."""
    printable = "".join(character if character.isprintable() else "?" for character in path)
    return printable[:MAX_FIELD_CHARACTERS].encode(errors="replace").decode()
