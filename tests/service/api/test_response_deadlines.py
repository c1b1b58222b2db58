"""Deadlines and sizes as clients see them: 429 is for the work of others only."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from service.engine.engine import Engine

SEARCH = {"queries": ["tea", "Kenya"]}
ENCODE = {"texts": ["tea", "Kenya"], "role": "query"}


@pytest.fixture
def needs(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make every request need that many seconds on the device, by the forecast."""
    engine = client.app.state.service.engine  # type: ignore[attr-defined]
    assert isinstance(engine, Engine)

    def set_seconds(seconds: float) -> None:
        monkeypatch.setattr(engine.batcher.cost, "least_seconds", lambda tokens: seconds)

    return set_seconds


def problem(response: httpx2.Response) -> Any:
    return response.json()["status"], response.json()["detail"]


@pytest.mark.parametrize("count", [1, 2])  # the second time, the queries are in the cache
@pytest.mark.parametrize(("path", "body"), [("/search", SEARCH), ("/encode", ENCODE)])
def test_a_timeout_too_short_for_an_idle_service_is_504_at_once(
    client: TestClient, needs: Callable[[float], None], path: str, body: Any, count: int
) -> None:
    assert client.post(path, json=body).status_code == 200
    needs(9.0)
    for _ in range(count):
        status, detail = problem(client.post(path, json={**body, "timeout_ms": 500}))

    assert status == 504
    assert "takes about 9 s even on an idle device" in detail


def test_a_search_within_no_allowed_timeout_is_422(
    client: TestClient, needs: Callable[[float], None]
) -> None:
    needs(61.0)

    many, one = client.post("/search", json=SEARCH), client.post("/search", json={"query": "tea"})

    assert [many.status_code, one.status_code] == [422, 422]
    assert [many.json()["field"], one.json()["field"]] == ["queries", "query"]
    assert "the longest timeout_ms (60000)" in many.json()["detail"]


def test_the_longest_timeout_does_not_bind_the_default_of_bulk(
    client: TestClient, needs: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = client.app.state.service.engine  # type: ignore[attr-defined]
    monkeypatch.setattr(engine.batcher, "seconds_alone", lambda lane, num_tokens: 100.0)
    needs(100.0)

    name = client.get("/v1/models").json()["data"][0]["id"]
    answers = [
        client.post("/encode", json=ENCODE),
        client.post("/v1/embeddings", json={"model": name, "input": ["tea"]}),
        client.post("/encode", json={**ENCODE, "timeout_ms": 60_000}),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 504]
    assert "leave timeout_ms out" in answers[2].json()["detail"]


def test_the_largest_documented_requests_are_served(client: TestClient) -> None:
    name = client.get("/v1/models").json()["data"][0]["id"]
    texts = [f"Where does tea grow? {number}" for number in range(2048)]

    answers = [
        client.post("/search", json={"queries": texts[:64]}),
        client.post("/encode", json={"texts": texts[:256], "role": "passage"}),
        client.post("/v1/embeddings", json={"model": name, "input": texts}),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len(answers[2].json()["data"]) == 2048
