"""The OpenAPI document: what FastAPI knows of the routes, and what it cannot know.

Checked in as `service/api/openapi.json`, so that a change of the contract shows in a diff.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.schemas import Problem
from service.auth.access import SCOPES, Access
from service.errors import RequestError, RetryLaterError, UnauthorizedError
from service.problems import MEDIA_TYPE, problem_type
from service.settings.settings import Settings

Responses = dict[int | str, dict[str, Any]]
SECURITY_SCHEME = "key"
REQUEST_ID = {
    "description": "The client's X-Request-Id, where it is a plain word; else a new one",
    "schema": {"type": "string"},
}
RETRY_AFTER = {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}
SERVER_TIMING = {
    "description": "Milliseconds by stage, and in total",
    "schema": {"type": "string"},
    "example": "tokenize;dur=0.1, encode;dur=8.9, total;dur=10.2",
}
# FastAPI's own idea of a 422, and what a filter is parsed to: no body has these.
NOT_SENT = ("AnyOf", "Bound", "Filter", "HTTPValidationError", "Not", "ValidationError")


def describe_problems(kinds: Iterable[type[RequestError]]) -> Responses:
    """Describe the statuses of a table of errors, for the OpenAPI document."""
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


def describe_contract(app: FastAPI) -> dict[str, Any]:
    """Make the document once."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
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
            "description": "Asked for where the service has keys",
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
    """Add the key and the headers to an operation; what errors look like is said once."""
    if not is_open:
        operation["security"] = [{}, {SECURITY_SCHEME: []}]
    if scope := SCOPES.get(path):
        operation["description"] += f" A key needs the scope `{scope}`."
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = REQUEST_ID
        if MEDIA_TYPE in response.get("content", {}):
            shared[status] = response
            operation["responses"][status] = {"$ref": f"#/components/responses/{status}"}
        else:
            headers["Server-Timing"] = SERVER_TIMING


def _example(kind: type[RequestError]) -> dict[str, object]:
    return {
        "type": problem_type(kind),
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning[0].lower() + kind.meaning[1:],
        "request_id": "order-17",
    }
