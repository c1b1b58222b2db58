"""Routes whose body is JSON in UTF-8 (RFC 8259, section 8.1)."""

import json
from functools import cached_property
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.errors import ClientGoneError
from service.retrieval.storage.json_lines import RepeatedKeyError, unique_object

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonRoute(APIRoute):
    """A route whose endpoint takes `body`, a model, and `request`, and returns a response.

    FastAPI describes it in the OpenAPI document. It is answered without FastAPI's dependencies, of
    which it has none: to solve them takes longer than to parse and validate the body.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a route without a body is FastAPI's."""
        if self.body_field is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self.endpoint(validate(self._model, await read_json(request)), request)
        await response(scope, receive, send)

    @cached_property
    def _model(self) -> type[BaseModel]:
        model: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        return model


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
        # `json.loads` would also take UTF-16 and UTF-32.
        text = body.removeprefix(BYTE_ORDER_MARK).decode()
        return json.loads(text, object_pairs_hook=unique_object)
    except RepeatedKeyError:
        raise _invalid_body("repeated_key") from None
    except (ValueError, RecursionError):
        raise _invalid_body("json_invalid") from None


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


def _invalid_body(kind: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body",), "msg": "invalid"}])
