"""Responses that report errors as problems. A response never repeats what a user sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.document_errors import (
    ManyChangesError,
    NotWriterError,
    StorageFullError,
    UnknownChangeError,
    UnknownDocumentError,
)
from service.errors import (
    BatchFailedError,
    ClientGoneError,
    ContentEncodingError,
    ContentTooLargeError,
    DeadlineExceededError,
    ForbiddenError,
    HeadTooLargeError,
    InvalidEmbeddingError,
    InvalidRequestError,
    MalformedError,
    MethodNotAllowedError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    QuotaExceededError,
    RateLimitedError,
    ReloadRefusedError,
    RequestError,
    SlowRequestError,
    TooManyConnectionsError,
    UnauthorizedError,
    UnknownModelError,
    UnknownPassageError,
)
from service.problem import MEDIA_TYPE, problem_of
from service.retrieval.errors import FilterError, RetrievalError
from service.telemetry.logs import REQUEST_ID, without_folders

MAX_FIELD_CHARACTERS = 100
# Key of the ASGI message that starts a response: the error's reason, for the metrics.
REASON = "clear.reason"
# Every error that a client may receive; the manual and the OpenAPI document are generated from it.
TABLE: tuple[type[RequestError], ...] = (
    MalformedError, UnauthorizedError, ForbiddenError, NotFoundError, UnknownModelError,
    UnknownPassageError, UnknownDocumentError, UnknownChangeError, MethodNotAllowedError,
    SlowRequestError, ReloadRefusedError, NotWriterError, ContentTooLargeError,
    ContentEncodingError, InvalidRequestError, OverloadedError, RateLimitedError,
    QuotaExceededError, ManyChangesError, HeadTooLargeError, ClientGoneError, BatchFailedError,
    InvalidEmbeddingError, NotReadyError, TooManyConnectionsError, DeadlineExceededError,
    StorageFullError,
)  # fmt: skip

DETAILS: dict[type[RequestError], str] = {
    NotFoundError: "there is no such path: see /docs",
    MethodNotAllowedError: "the path does not accept the method: see /docs",
}


class ProblemResponse(Response):
    """The response that reports one error."""

    def __init__(
        self, error: RequestError, field: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        """Keep the error; the body depends on the path and is written when it is sent.

        Args:
            error: what went wrong.
            field: the invalid field of the body.
            headers: of the response, in addition to those of the error.
        """
        self._error = error
        self._field = field
        self._problem_headers = {**headers, **error.headers}
        super().__init__(status_code=error.status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the problem, with the error's reason for the metrics."""

        async def send_with_reason(message: Message) -> None:
            message[REASON] = self._error.reason
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        problem = problem_of(self._error, self._field, path)
        response = Response(to_json(problem), self.status_code, self._problem_headers, MEDIA_TYPE)
        await response(scope, receive, send_with_reason)


def install_problems(app: FastAPI) -> None:
    """Register exception handlers that answer every error of an app as a problem."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(RetrievalError, _on_retrieval_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return ProblemResponse(error, error.field)


async def _on_retrieval_error(request: Request, error: Exception) -> Response:
    if isinstance(error, FilterError):
        field = _printable(error.field)
        return ProblemResponse(InvalidRequestError(f"{field}: {error.reason}"), field)
    return ProblemResponse(InvalidRequestError(without_folders(str(error))))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answer an error of the framework as the error of the table with its status."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = _with_head(headers["Allow"])
    kinds = (kind for kind in TABLE if kind.status == error.status_code)
    kind = next(kinds, BatchFailedError)
    return ProblemResponse(kind(DETAILS.get(kind, kind.meaning)), headers=headers)


def _with_head(allowed: str) -> str:
    """Return the methods that a path accepts: HEAD, too, where it accepts GET.

    >>> _with_head("GET"), _with_head("POST")
    ('GET, HEAD', 'POST')
    """
    methods = {method.strip() for method in allowed.split(",")}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


async def _on_bug(request: Request, error: Exception) -> Response:
    return ProblemResponse(
        BatchFailedError("the service failed; its log names the cause"),
        headers={"X-Request-Id": REQUEST_ID.get()},
    )


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _malformed(first["msg"])
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
    """Format a pydantic location as a path, such as `queries[3]`.

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
    """Shorten a path to one printable line; it may hold names that a user chose."""
    printable = "".join(character if character.isprintable() else "?" for character in path)
    return printable[:MAX_FIELD_CHARACTERS].encode(errors="replace").decode()
