from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from service import errors
from service.api.schemas import Problem
from service.errors import TABLE, OverloadedError, RequestError
from service.problems import MEDIA_TYPE, install_problems
from service.retrieval.errors import RetrievalError

RETRY = 7


def example(kind: type[RequestError]) -> RequestError:
    """Make an error of a kind."""
    if kind is OverloadedError:
        return OverloadedError(RETRY)
    if issubclass(kind, errors.RetryLaterError):
        return kind("the reason", RETRY)
    return kind("the reason")


# There is no such path or method, nobody reads it, or it is of /admin.
OF_NO_QUESTION = {404, 405, 409, 499}


def answer_to(error: Exception) -> Any:
    """Ask a service that can only fail."""
    app = FastAPI()
    install_problems(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False).get("/")


def kinds_below(kind: type[RequestError]) -> set[type[RequestError]]:
    below = kind.__subclasses__()
    return {*below, *(each for one in below for each in kinds_below(one))}


def test_the_table_has_every_error_that_differs_from_its_like() -> None:
    assert kinds_below(RequestError) - set(TABLE) == {
        errors.RetryLaterError,
        errors.DeviceBrokenError,
    }
    assert len({kind.reason for kind in TABLE}) == len({kind.title for kind in TABLE}) == len(TABLE)
    assert all(kind.meaning and 400 <= kind.status < 600 for kind in TABLE)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.reason)
def test_a_request_error_is_answered_as_the_table_has_it(kind: type[RequestError]) -> None:
    error = example(kind)

    response = answer_to(error)

    assert response.status_code == kind.status
    assert response.headers["Content-Type"] == MEDIA_TYPE
    assert response.json() == {
        "type": "urn:clear-search:problem:" + kind.title.lower().replace(" ", "-"),
        "title": kind.title,
        "status": kind.status,
        "detail": str(error),
    }


def test_who_may_come_again_is_told_when() -> None:
    told = {
        kind: headers["Retry-After"]
        for kind in TABLE
        if "Retry-After" in (headers := answer_to(example(kind)).headers)
    }

    assert told == dict.fromkeys(errors.RetryLaterError.__subclasses__(), str(RETRY))


@pytest.mark.parametrize(("status", "kind"), [(404, errors.NotFoundError), (418, None)])
def test_what_the_framework_refuses_is_in_the_table_too(
    status: int, kind: type[RequestError] | None
) -> None:
    response = answer_to(HTTPException(status, "secret"))

    assert response.json()["title"] == (kind or errors.BatchFailedError).title
    assert "secret" not in response.text


def test_a_problem_names_the_request(client: TestClient) -> None:
    response = client.post("/search", json={}, headers={"X-Request-Id": "order-17"})

    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "order-17"


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
    assert documented == {200} | {kind.status for kind in TABLE} - OF_NO_QUESTION


def test_the_document_gives_each_error_the_problem_s_media_type_schema_and_example(
    client: TestClient,
) -> None:
    """The document said application/json, the service application/problem+json."""
    document = client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["Problem"]

    assert set(schema["properties"]) == set(Problem.model_fields)
    for name, response in document["components"]["responses"].items():
        content = response["content"]
        assert set(content) == {MEDIA_TYPE}
        assert content[MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
        for one in content[MEDIA_TYPE]["examples"].values():
            assert Problem(**one["value"]).status == int(name)


def test_the_document_has_every_error_of_a_route_once(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    assert response == {"$ref": f"#/components/responses/{status}"}


def test_the_document_s_examples_are_accepted(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    for path, name in (("/search", "SearchRequest"), ("/encode", "EncodeRequest")):
        for example in schemas[name]["examples"]:
            assert client.post(path, json=example).status_code == 200
