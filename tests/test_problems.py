from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service import errors
from service.errors import OverloadedError, RequestError
from service.problems import MEDIA_TYPE, install_problems
from service.retrieval.errors import RetrievalError
from service.schemas import Problem

EXAMPLES: dict[type[RequestError], RequestError] = {
    OverloadedError: OverloadedError(7),
    errors.UnauthorizedError: errors.UnauthorizedError("send the service's key"),
    errors.ForbiddenError: errors.ForbiddenError("the route is closed"),
    errors.ReloadRefusedError: errors.ReloadRefusedError("vectors.faiss is damaged"),
    errors.BatchFailedError: errors.BatchFailedError("the batch failed"),
    errors.NotReadyError: errors.NotReadyError("the service is loading"),
    errors.DeadlineExceededError: errors.DeadlineExceededError("too late"),
    errors.ClientGoneError: errors.ClientGoneError("the client closed the connection"),
}
# A client that has gone reads no status: its 499 is for the metrics alone.
STATUSES = {401, 429, 500, 503, 504}
# What no RequestError stands for: the framework or the schemas refuse these.
REFUSED_BEFORE = {400, 413, 422}


def answer_to(error: Exception) -> Any:
    """Ask a service that can only fail."""
    app = FastAPI()
    install_problems(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False).get("/")


def test_every_request_error_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(RequestError.__subclasses__())
    assert {kind.status for kind in EXAMPLES} == STATUSES | {403, 409, 499}


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: type(error).__name__)
def test_a_request_error_is_answered_with_its_status_title_and_message(
    error: RequestError,
) -> None:
    response = answer_to(error)

    assert response.status_code == error.status
    assert response.headers["Content-Type"] == MEDIA_TYPE
    assert response.json() == {
        "type": f"urn:clear-search:problem:{error.title.lower().replace(' ', '-')}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }


def test_only_a_busy_service_tells_when_to_try_again() -> None:
    headers = {kind: answer_to(error).headers for kind, error in EXAMPLES.items()}

    told = {kind: found["Retry-After"] for kind, found in headers.items() if "Retry-After" in found}
    assert told == {OverloadedError: "7"}


def test_an_error_of_the_retrieval_is_the_content_s_fault() -> None:
    response = answer_to(RetrievalError("a text holds half a surrogate pair"))

    assert (response.status_code, response.headers["Content-Type"]) == (422, MEDIA_TYPE)


def test_a_bug_is_a_500_that_tells_nothing_of_it() -> None:
    response = answer_to(KeyError("secret"))

    assert (response.status_code, response.headers["Content-Type"]) == (500, MEDIA_TYPE)
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_document_names_each_error_that_a_post_is_answered_with(
    client: TestClient, path: str
) -> None:
    responses = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]

    documented = {int(status) for status in responses}
    assert documented == {200} | STATUSES | REFUSED_BEFORE


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_document_gives_each_error_the_problem_s_media_type_and_schema(
    client: TestClient, path: str
) -> None:
    """The document said application/json, the service application/problem+json."""
    responses = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]

    contents = [content["content"] for status, content in responses.items() if status != "200"]
    for content in contents:
        assert set(content) == {MEDIA_TYPE}
        assert set(content[MEDIA_TYPE]["schema"]["properties"]) == set(Problem.model_fields)


def test_the_document_s_examples_are_accepted(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    for path, name in (("/search", "SearchRequest"), ("/encode", "EncodeRequest")):
        for example in schemas[name]["examples"]:
            assert client.post(path, json=example).status_code == 200
