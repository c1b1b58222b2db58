from collections.abc import Iterator

import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient

from service.app import create_app
from service.security import is_open
from service.settings import Settings
from tests.test_metrics import sample

KEY = "a-key-of-24-characters-!"


@pytest.fixture(scope="module")
def guarded(service_settings: Settings) -> Iterator[TestClient]:
    settings = service_settings.model_copy(update={"api_key": SecretStr(KEY)})
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(
    "authorization",
    [None, "", KEY, f"Basic {KEY}", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"],
)
def test_a_missing_or_wrong_key_is_a_problem_with_401(
    guarded: TestClient, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    before = sample(guarded, "clear_refusals_total", reason="unauthorized")

    answer = guarded.post("/search", json={"query": "tea"}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["title"] == "Unauthorized"
    assert KEY not in answer.text
    assert sample(guarded, "clear_refusals_total", reason="unauthorized") == before + 1


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_key_is_let_in(guarded: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEY}"}

    assert guarded.post("/search", json={"query": "tea"}, headers=headers).status_code == 200


def test_two_keys_are_refused(guarded: TestClient) -> None:
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")]

    assert guarded.post("/search", json={"query": "tea"}, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/", "/docs", "/web/search.js"])
def test_probes_metrics_and_pages_are_open(guarded: TestClient, path: str) -> None:
    assert is_open(path)
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/search", "/encode", "/info", "/web/../search", "/anything"])
def test_every_other_path_asks_for_the_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code in (401, 404)
    assert not is_open(path) or ".." in path


def test_the_key_is_in_no_description_of_the_settings(guarded: TestClient) -> None:
    settings = Settings(api_key=SecretStr(KEY))

    assert KEY not in repr(settings)
    assert KEY not in guarded.get("/info", headers={"Authorization": f"Bearer {KEY}"}).text


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 16"):
        Settings(api_key=SecretStr("short"))
