import http.client
import urllib.parse

import pytest
from starlette.testclient import TestClient

from tests.support.responses import sample

PATHS = [
    "/",
    "/livez",
    "/readyz",
    "/metrics",
    "/info",
    "/docs",
    "/openapi.json",
    "/static-offline-docs/swagger-ui.css",
    "/web/search.js",
    "/v1/models",
    "/v1/models/tiny-mean-0",
]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_as_get_without_a_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (200, b"")
    names = ("Content-Type", "Content-Encoding")
    assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]
    assert ("Content-Length" in head.headers) == ("Content-Length" in get.headers)


@pytest.mark.parametrize(("path", "status"), [("/nope", 404), ("/search", 405)])
def test_a_refused_head_has_no_body(client: TestClient, path: str, status: int) -> None:
    head = client.head(path)

    assert (head.status_code, head.content) == (status, b"")


def test_metrics_count_head_by_its_route(client: TestClient) -> None:
    labels = {"route": "/info", "method": "HEAD", "status": "200"}
    before = sample(client, "clear_request_duration_seconds_count", **labels)

    client.head("/info")

    assert sample(client, "clear_request_duration_seconds_count", **labels) == before + 1


def test_a_connection_serves_the_request_after_a_head(address: str) -> None:
    """The lengths that it reads must be those that the server sends."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)

    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, "/readyz")
        response = connection.getresponse()
        body = response.read()
        assert (response.status, body) == (200, b"" if method == "HEAD" else b'{"status":"ready"}')
    connection.close()
