"""Errors as application/problem+json (RFC 9457); nothing that a user sent is repeated."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import OverloadedError, RequestError
from service.retrieval.errors import FilterError, RetrievalError
from service.schemas import Problem

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:clear-search:problem:"
MAX_FIELD_CHARACTERS = 100

DETAILS = {
    400: "the body is not valid JSON in UTF-8",
    404: "there is no such path: see /docs",
    405: "the path does not take this method: see /docs",
    413: "the body is larger than this service accepts (CLEAR_MAX_BODY_BYTES)",
}


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    field: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Write one error."""
    body = Problem(
        type=TYPE_PREFIX + title.lower().replace(" ", "-"),
        title=title,
        status=status,
        detail=detail,
        field=field,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE
    )


class BodyLimit:
    """ASGI middleware that refuses a body over the limit, whether its length is declared or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap an app."""
        self._app = app
        self._max_bytes = max_bytes
        self._limited = RequestBodyLimitMiddleware(app, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; starlette's plain 413 becomes a problem."""
        if self._is_declared_small(scope):  # and the server reads no more than is declared
            await self._app(scope, receive, send)
            return
        is_refused = False

        async def send_problem(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_refused = True
                refusal = problem(413, "Content too large", DETAILS[413], field="body")
                await refusal(scope, receive, send)
            if not is_refused:
                await send(message)

        await self._limited(scope, receive, send_problem)

    def _is_declared_small(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return True
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        return len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= self._max_bytes


def install_problems(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(RetrievalError, _on_retrieval_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


def refuse(error: RequestError) -> JSONResponse:
    """Write the answer to a request that the service cannot meet."""
    headers = None
    if isinstance(error, OverloadedError):
        headers = {"Retry-After": str(error.retry_after_seconds)}
    return problem(error.status, error.title, str(error), headers=headers)


async def _on_request_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    return refuse(error)


async def _on_retrieval_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, FilterError):
        field = _printable(error.field)
        return problem(422, "Invalid request", f"{field}: {error.reason}", field=field)
    return problem(422, "Invalid request", str(error))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return _malformed(DETAILS[400])
    title = HTTPStatus(error.status_code).phrase.capitalize()
    detail = DETAILS.get(error.status_code, title)
    return problem(error.status_code, title, detail, headers=dict(error.headers or {}))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "Internal error", "the service failed; its log names the cause")


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _malformed(DETAILS[400])
    path = _printable(first.get("ctx", {}).get("field") or "") or _field_path(first["loc"])
    if path == "body":
        return _malformed(_body_detail(request, first))
    return problem(422, "Invalid request", f"{path}: {first['msg']}", field=path)


def _malformed(detail: str) -> JSONResponse:
    return problem(400, "Malformed request", detail, field="body")


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
