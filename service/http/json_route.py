"""Routes whose body is JSON in UTF-8 (RFC 8259, section 8.1)."""

from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.errors import ClientGoneError
from service.retrieval.storage.json_lines import RepeatedKeyError, parse_json

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonRoute(APIRoute):
    """A route whose endpoint takes `body`, a model, and `request`, and returns a response.

    FastAPI describes it in the OpenAPI document. It is answered without FastAPI's dependencies, of
    which it has none: to solve them takes longer than to parse and validate the body.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Read the model of the body from the endpoint's signature."""
        super().__init__(path, endpoint, **options)
        self._model: type[BaseModel] | None = get_type_hints(endpoint).get("body")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a route without a body is FastAPI's."""
        if self._model is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self.endpoint(validate(self._model, await read_json(request)), request)
        await response(scope, receive, send)


async def read_json(request: Request) -> Any:
    """Return the content of a body: as bytes if it is not declared as JSON.

    Raises:
        RequestValidationError: it is empty, not JSON in UTF-8, or has a key twice in an object.
        ClientGoneError: the client disconnected.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ClientGoneError("the client closed the connection") from None
    if not body:
        raise _invalid_body("missing")
    if not is_json(request.headers.get("content-type", "")):
        return body
    try:
        return parse_json(body.removeprefix(BYTE_ORDER_MARK).decode())
    except UnicodeDecodeError as error:
        detail = f"the body is not UTF-8 at byte {error.start + 1}: send JSON in UTF-8"
    except RepeatedKeyError:
        detail = "an object of the body has a key twice: remove one"
    except ValueError as error:
        detail = f"the body cannot be read as JSON in UTF-8: {error}"
    raise _invalid_body("json_invalid", detail)


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type declares JSON.

    >>> is_json("application/json; charset=utf-8"), is_json("application/ld+json")
    (True, True)
    >>> is_json("text/json"), is_json("")
    (False, False)
    """
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    is_subtype = subtype == "json" or (subtype.endswith("+json") and "/" not in subtype)
    return kind == "application" and is_subtype


def validate(model: type[BaseModel], content: Any) -> BaseModel:
    """Return the content of a body as its model.

    Raises:
        RequestValidationError: it is not valid.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in errors]
        ) from None


def _invalid_body(kind: str, detail: str = "") -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body",), "msg": detail}])
