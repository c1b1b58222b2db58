from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from service import errors
from service.errors import OverloadedError, RequestError
from service.problem import MEDIA_TYPE
from service.problems import TABLE, install_problems
from service.retrieval.errors import RetrievalError

RETRY = 7


def example(kind: type[RequestError]) -> RequestError:
    """Return an error of a class."""
    if kind is OverloadedError:
        return OverloadedError(RETRY)
    if issubclass(kind, errors.RetryLaterError):
        return kind("the reason", RETRY)
    return kind("the reason")


def answer_to(error: Exception, path: str = "/") -> Any:
    """Return the response of an app whose only route raises an error."""
    app = FastAPI()
    install_problems(app)

    @app.get(path)
    async def fail() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False).get(path)


def kinds_below(kind: type[RequestError]) -> set[type[RequestError]]:
    below = kind.__subclasses__()
    return {*below, *(each for one in below for each in kinds_below(one))}


def test_the_table_has_every_error_with_a_reason_of_its_own() -> None:
    assert kinds_below(RequestError) - set(TABLE) == {
        errors.RetryLaterError,
        errors.DeviceBrokenError,
        errors.ShortDeadlineError,
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


def test_errors_that_allow_a_retry_have_retry_after() -> None:
    waits = {
        kind: headers["Retry-After"]
        for kind in TABLE
        if "Retry-After" in (headers := answer_to(example(kind)).headers)
    }

    assert waits == dict.fromkeys(errors.RetryLaterError.__subclasses__(), str(RETRY))


@pytest.mark.parametrize(("status", "kind"), [(404, errors.NotFoundError), (418, None)])
def test_refusals_of_the_framework_are_errors_of_the_table(
    status: int, kind: type[RequestError] | None
) -> None:
    response = answer_to(HTTPException(status, "secret"))

    assert response.json()["title"] == (kind or errors.BatchFailedError).title
    assert "secret" not in response.text


def test_a_problem_names_the_request(client: TestClient) -> None:
    response = client.post("/search", json={}, headers={"X-Request-Id": "order-17"})

    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "order-17"


def test_an_error_of_retrieval_is_answered_with_422() -> None:
    response = answer_to(RetrievalError("a text holds half a surrogate pair"))

    assert (response.status_code, response.headers["Content-Type"]) == (422, MEDIA_TYPE)


def test_a_bug_is_a_500_without_details() -> None:
    response = answer_to(KeyError("secret"))

    assert (response.status_code, response.headers["Content-Type"]) == (500, MEDIA_TYPE)
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.UnauthorizedError("no"), "authentication_error"),
        (errors.OverloadedError(RETRY), "rate_limit_error"),
        (errors.InvalidRequestError("no"), "invalid_request_error"),
        (KeyError("secret"), "server_error"),
    ],
)
def test_an_error_on_openai_s_paths_has_openai_s_member_too(error: Exception, kind: str) -> None:
    problem = answer_to(error, "/v1/embeddings").json()

    assert problem["error"] == {
        "message": problem["detail"],
        "type": kind,
        "param": None,
        "code": problem["type"].rpartition(":")[2],
    }
    assert "error" not in answer_to(error, "/v1").json()
