import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.http.observer import RequestObserver
from service.settings.settings import Settings


@contextmanager
def serving(settings: Settings, **changes: object) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update=changes))) as client:
        yield client


def test_a_clients_request_id_comes_back(client: TestClient) -> None:
    answer = client.post("/search", json={"query": "tea"}, headers={"X-Request-Id": "order-17"})

    assert answer.headers["X-Request-Id"] == "order-17"


@pytest.mark.parametrize("given", ["", "two words", "a" * 129, "<script>", "a\tb"])
def test_an_invalid_request_id_is_replaced(client: TestClient, given: str) -> None:
    answer = client.get("/livez", headers={"X-Request-Id": given})

    assert len(answer.headers["X-Request-Id"]) == 32


def test_each_request_has_its_own_id_also_if_refused(client: TestClient) -> None:
    answers = [client.post("/search", content=b"{") for _ in range(3)]

    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3


def test_the_access_log_has_route_and_status_but_nothing_that_was_sent(
    service_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(service_settings, access_log_level="info") as client, caplog.at_level("INFO"):
        client.post("/search?q=secret", json={"query": "secret"}, headers={"X-Request-Id": "r1"})
        client.get("/secret/path")
        client.get("/livez")

    records = [record for record in caplog.records if record.name == "service.access"]
    fields = [vars(record)["fields"] for record in records]
    assert [(one["route"], one["method"], one["status"]) for one in fields] == [
        ("/search", "POST", 200),
        ("unmatched", "GET", 404),
    ]
    assert all(one["seconds"] > 0 for one in fields)
    assert "secret" not in json.dumps([record.getMessage() for record in records])


@pytest.mark.parametrize(("level", "is_logged"), [("debug", False), ("info", True), ("off", False)])
def test_the_access_log_has_its_own_level(
    service_settings: Settings, caplog: pytest.LogCaptureFixture, level: str, is_logged: bool
) -> None:
    with serving(service_settings, access_log_level=level) as client, caplog.at_level("INFO"):
        client.post("/search", json={"query": "tea"})

    assert any(record.name == "service.access" for record in caplog.records) == is_logged


def test_a_server_error_is_logged_at_least_as_a_warning(
    service_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(service_settings) as client, caplog.at_level(logging.INFO):
        client.app.state.service.enter("draining")  # type: ignore[attr-defined]
        client.get("/readyz")

    [record] = [record for record in caplog.records if record.name == "service.access"]
    assert (record.levelname, vars(record)["fields"]["status"]) == ("WARNING", 503)


def test_a_draining_service_makes_its_clients_reconnect(service_settings: Settings) -> None:
    """At the end idle connections are closed; a request sent at that moment would be lost."""
    with serving(service_settings) as client:
        before = client.post("/search", json={"query": "tea"})
        client.app.state.service.enter("draining")  # type: ignore[attr-defined]
        after = client.post("/search", json={"query": "tea"})

    assert (before.status_code, after.status_code) == (200, 200)
    assert "connection" not in before.headers
    assert after.headers["connection"] == "close"


def test_a_file_whose_client_left_is_not_counted_as_a_server_error(
    service_settings: Settings,
) -> None:
    async def drop(scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing, as starlette's FileResponse if the client has left."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(f"nobody listens: {message}")

    scope = {"type": "http", "method": "GET", "path": "/web/search.js", "headers": []}
    with serving(service_settings) as client:
        observer = RequestObserver(drop, client.app.state.service)  # type: ignore[attr-defined]
        asyncio.run(observer(scope, receive, send))
        counted = client.get("/metrics").text

    assert 'route="unmatched",status="499"} 1.0' in counted
    assert 'status="500"' not in counted
