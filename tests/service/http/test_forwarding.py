import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.auth.keys import Key, write_line
from service.settings.settings import Settings

PROXY = "10.0.0.1"
FORWARDED = {
    "X-Forwarded-Prefix": "/clear",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "search.example.org",
}
KEY = "0123456789abcdef"


@contextmanager
def behind(settings: Settings, peer: str = PROXY, **changes: Any) -> Iterator[TestClient]:
    """Serve requests that come from an address."""
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, client=(peer, 1234), follow_redirects=False) as client:
        yield client


def links(page: str) -> list[str]:
    return re.findall(r"(?:href|src)=\"([^\"]+)\"", page) + re.findall(r"url: '([^']+)'", page)


@pytest.mark.parametrize("path", ["/docs", "/clear/docs"], ids=["prefix removed", "prefix left"])
def test_with_a_root_path_the_docs_and_all_that_they_load_are_below_it(
    service_settings: Settings, path: str
) -> None:
    with behind(service_settings, root_path="/clear") as client:
        found = [urljoin("https://host/clear/docs", link) for link in links(client.get(path).text)]
        answers = [client.get(link.removeprefix("https://host/clear")) for link in found]
        document = client.get("/openapi.json").json()

    assert len(found) >= 4
    assert all(link.startswith("https://host/clear/") for link in found), found
    assert [answer.status_code for answer in answers] == [200] * len(found)
    assert document["servers"] == [{"url": "/clear"}]


@pytest.mark.parametrize("proxies", ["10.0.0.1", "10.0.0.0/8", "192.0.2.1,10.0.0.0/24"])
@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}"])
def test_the_prefix_that_a_trusted_proxy_forwards_is_believed(
    service_settings: Settings, proxies: str, peer: str
) -> None:
    with behind(service_settings, peer, trusted_proxies=proxies) as client:
        document = client.get("/openapi.json", headers=FORWARDED).json()
        plain = client.get("/openapi.json").json()

    assert document["servers"] == [{"url": "/clear"}]
    assert "servers" not in plain


@pytest.mark.parametrize("proxies", ["", "192.0.2.1", "10.0.1.0/24", "::1"])
def test_forwarded_headers_of_others_are_ignored(service_settings: Settings, proxies: str) -> None:
    with behind(service_settings, trusted_proxies=proxies) as client:
        assert "servers" not in client.get("/openapi.json", headers=FORWARDED).json()
        assert "/clear" not in client.get("/docs", headers=FORWARDED).text


@pytest.mark.parametrize(
    "prefix", ["//evil.example", '/a"><script>', "clear", "/a/../b", "https://evil.example", "/"]
)
def test_a_malformed_prefix_is_ignored_also_from_a_trusted_proxy(
    service_settings: Settings, prefix: str
) -> None:
    """A proxy may pass on what a client sent."""
    with behind(service_settings, trusted_proxies=PROXY, root_path="/kept") as client:
        document = client.get("/openapi.json", headers={"X-Forwarded-Prefix": prefix}).json()

    assert document["servers"] == [{"url": "/kept"}]


def test_of_several_prefixes_the_trusted_proxy_s_own_is_believed(
    service_settings: Settings,
) -> None:
    headers = {"X-Forwarded-Prefix": "/of-the-client, /clear"}
    with behind(service_settings, trusted_proxies=PROXY) as client:
        document = client.get("/openapi.json", headers=headers).json()

    assert document["servers"] == [{"url": "/clear"}]


@pytest.mark.parametrize("changes", [{}, {"root_path": "/clear"}, {"trusted_proxies": PROXY}])
def test_a_slash_at_the_end_is_another_path_and_nothing_is_redirected(
    service_settings: Settings, changes: dict[str, str]
) -> None:
    """A client that follows a redirect may lose method, body or key on the way."""
    with behind(service_settings, **changes) as client:
        for path in ("/search/", "/docs/", "/livez%2F", "/web", "/livez//", "/readyz/?a=b"):
            for response in (client.get(path, headers=FORWARDED), client.post(path)):
                assert (response.status_code, response.json()["title"]) == (404, "Not found"), path


def test_the_prefix_without_a_slash_leads_to_the_page(service_settings: Settings) -> None:
    with behind(service_settings, root_path="/a/clear") as client:
        response = client.get("/a/clear")

    assert urljoin("https://host/a/clear", response.headers["Location"]) == "https://host/a/clear/"
    assert response.headers["X-Request-Id"]


def test_a_search_below_a_prefix_is_answered_and_counted_by_its_route(
    service_settings: Settings,
) -> None:
    with behind(service_settings, root_path="/clear") as client:
        for path in ("/search", "/clear/search"):
            assert client.post(path, json={"query": "tea"}).status_code == 200
        assert client.get("/clear/v1/models").status_code == 200
        assert client.get("/clear/web/search.js").status_code == 200
        error = client.get("/clear/v1/models/none").json()
        metrics = client.get("/metrics").text

    assert error["error"]["code"] == "unknown-model"
    series = 'clear_request_duration_seconds_count{method="POST",route="/search",status="200"}'
    assert f"{series} 2.0" in metrics


@pytest.mark.parametrize("root_path", ["/search", "/v1", "/web", "/docs"])
def test_a_prefix_may_be_named_as_a_route(service_settings: Settings, root_path: str) -> None:
    """The proxy removes it, so that `/search` is `/search/search` outside."""
    with behind(service_settings, root_path=root_path) as client:
        assert client.post("/search", json={"query": "tea"}).status_code == 200
        for path in ("/", "/v1/models", "/web/search.js", "/docs"):
            assert client.get(path).status_code == 200


def test_a_prefix_named_as_a_route_may_be_left(service_settings: Settings) -> None:
    with behind(service_settings, root_path="/search") as client:
        assert client.post("/search/search", json={"query": "tea"}).status_code == 200
        assert client.get("/search/").text == client.get("/").text


@pytest.mark.parametrize(
    "path",
    ["/clear/admin/reload", "/clear/clear/admin/reload", "/admin/reload", "/clear//admin/reload"],
)
def test_the_prefix_opens_no_route_to_a_key_without_its_scope(
    service_settings: Settings, path: str
) -> None:
    key = Key(sha256=hashlib.sha256(KEY.encode()).hexdigest(), scopes=frozenset(["search"]))
    keys = SecretStr(write_line("page", key))
    with behind(service_settings, root_path="/clear", keys=keys) as client:
        response = client.post(path, headers={"Authorization": f"Bearer {KEY}"})
        unknown = client.post(path)

    assert response.status_code in (403, 404)
    assert unknown.status_code == 401
