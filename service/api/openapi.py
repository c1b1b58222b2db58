"""The OpenAPI document: FastAPI's own, plus errors, headers and keys.

The document is checked in as `service/api/openapi.json`: a change of the API shows in a diff. That
of a running service also holds the limits of its encoder and settings.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.schemas import Problem
from service.auth.access import Access, scope_of
from service.errors import RequestError, RetryLaterError, UnauthorizedError
from service.lifespan import State
from service.problem import MEDIA_TYPE, problem_type
from service.problems import TABLE
from service.settings.settings import Settings

Responses = dict[int | str, dict[str, Any]]
SECURITY_SCHEME = "key"
REQUEST_ID = {
    "description": "The X-Request-Id of the request if it is a plain word, else a new id",
    "schema": {"type": "string"},
}
RETRY_AFTER = {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}
SERVER_TIMING = {
    "description": "Milliseconds by stage and in total",
    "schema": {"type": "string"},
    "example": "tokenize;dur=0.1, encode;dur=8.9, total;dur=10.2",
}
# FastAPI's own body of a 422, and the classes that a filter is parsed to: no body has these.
NOT_SENT = ("AnyOf", "Bound", "Filter", "HTTPValidationError", "Not", "ValidationError")


def _example(kind: type[RequestError]) -> dict[str, object]:
    return {
        "type": problem_type(kind),
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning[0].lower() + kind.meaning[1:],
        "request_id": "order-17",
    }


def describe_problems(kinds: Iterable[type[RequestError]]) -> Responses:
    """Describe errors by status, for the OpenAPI document."""
    responses: Responses = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "description": "",
                "content": {
                    MEDIA_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        response["description"] = ". ".join(filter(None, (response["description"], kind.meaning)))
        response["content"][MEDIA_TYPE]["examples"][kind.reason] = {"value": _example(kind)}
        if issubclass(kind, RetryLaterError):
            response["headers"] = {"Retry-After": RETRY_AFTER}
        if issubclass(kind, UnauthorizedError):
            response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return responses


PROBLEM_RESPONSES = describe_problems(TABLE)
ALWAYS_POSSIBLE = {401, 403, 408, 431, 503}
POSSIBLE_FOR_POST = {*ALWAYS_POSSIBLE, 400, 413, 415, 422, 429, 500, 504}
GET_RESPONSES: Responses = {status: PROBLEM_RESPONSES[status] for status in sorted(ALWAYS_POSSIBLE)}
POST_RESPONSES: Responses = {
    status: PROBLEM_RESPONSES[status] for status in sorted(POSSIBLE_FOR_POST)
}


def openapi_document(app: FastAPI, state: State) -> dict[str, Any]:
    """Return the OpenAPI document with the limits of the instance; build it at the first call."""
    if app.openapi_schema is None:
        app.openapi_schema = _build_document(app)
    set_maxima(app.openapi_schema, state.field_maxima)
    return app.openapi_schema


def set_maxima(document: dict[str, Any], maxima: Mapping[str, int]) -> None:
    """Set the maximum of the optional integer fields of bodies that have the given names."""
    for schema in document["components"]["schemas"].values():
        for name in schema["properties"].keys() & maxima.keys():
            schema["properties"][name]["anyOf"][0]["maximum"] = maxima[name]


def _build_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document["components"]
    for name in NOT_SENT:
        components["schemas"].pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"]["Problem"] = problem
    components["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "Required if the service has keys",
        }
    }
    access = Access(Settings.model_construct())
    shared: dict[str, Any] = {}
    components["responses"] = shared
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _complete(operation, path, access.rule(path) == "open", shared)
    return document


def _complete(operation: dict[str, Any], path: str, is_open: bool, shared: dict[str, Any]) -> None:
    """Add key and headers to an operation; move its errors to `shared` and refer to them."""
    if not is_open:
        operation["security"] = [{}, {SECURITY_SCHEME: []}]
    if scope := scope_of(path):
        operation["description"] += f" A key needs the scope `{scope}`."
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = REQUEST_ID
        if MEDIA_TYPE in response.get("content", {}):
            shared[status] = response
            operation["responses"][status] = {"$ref": f"#/components/responses/{status}"}
        else:
            headers["Server-Timing"] = SERVER_TIMING
