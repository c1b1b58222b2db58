import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize("path", ["/livez", "/", "/docs", "/nowhere", "/web/search.js", "/search"])
def test_every_response_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert len(headers.get_list("Content-Security-Policy")) == 1
    assert "Server" not in headers
