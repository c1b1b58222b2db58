from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient

from service.app import create_app
from service.auth.authentication import NO_KEY, UNKNOWN_KEY
from service.auth.keys import make_key, write_line
from service.cli import index_admin, index_build, keys, main, options
from service.settings.settings import Settings
from tests.support.responses import sample

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
def test_a_missing_or_wrong_key_is_a_problem_with_401_that_says_which(
    guarded: TestClient, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    before = sample(guarded, "clear_refusals_total", reason="unauthorized")

    answer = guarded.post("/search", json={"query": "tea"}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["title"] == "Unauthorized"
    is_sent = (authorization or "").startswith("Bearer ") and authorization != "Bearer "
    assert answer.json()["detail"] == (UNKNOWN_KEY if is_sent else NO_KEY)
    assert KEY not in answer.text
    assert sample(guarded, "clear_refusals_total", reason="unauthorized") == before + 1


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_key_is_accepted(guarded: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEY}"}

    assert guarded.post("/search", json={"query": "tea"}, headers=headers).status_code == 200


def test_two_keys_are_refused(guarded: TestClient) -> None:
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")]

    assert guarded.post("/search", json={"query": "tea"}, headers=headers).status_code == 401


PUBLIC = ["/livez", "/readyz", "/metrics", "/", "/docs", "/openapi.json", "/web/search.js"]


@pytest.mark.parametrize("path", PUBLIC)
def test_probes_metrics_and_pages_are_open(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/search", "/encode", "/info", "/anything", "/admin/reload", "/v1/models", "//livez"]
)
def test_every_other_path_requires_the_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(f"http://testserver{path}").status_code == 401


def test_no_description_of_the_settings_contains_the_key(guarded: TestClient) -> None:
    settings = Settings(api_key=SecretStr(KEY), keys=SecretStr(KEY))

    assert KEY not in repr(settings)
    assert KEY not in guarded.get("/info", headers={"Authorization": f"Bearer {KEY}"}).text


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 16"):
        Settings(api_key=SecretStr("short"))


@contextmanager
def serving(settings: Settings, **changes: object) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update=changes))) as client:
        yield client


@dataclass
class Scoped:
    """A service with one key per scope, one with a low rate limit and one with a low quota."""

    client: TestClient
    secrets: dict[str, str]

    def ask(self, name: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets[name]}"}
        method = "GET" if path in ("/info", "/metrics", "/docs", "/nowhere") else "POST"
        return self.client.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
def scoped(service_settings: Settings) -> Iterator[Scoped]:
    limits: dict[str, dict[str, Any]] = {
        "searcher": {"scopes": ["search"]},
        "encoder": {"scopes": ["encode"]},
        "admin": {"scopes": ["admin"]},
        "seldom": {"scopes": ["search"], "requests_per_second": 0.01},
        "small": {"scopes": ["search", "encode"], "max_tokens": 8},
    }
    made = {name: make_key(**given) for name, given in limits.items()}
    lines = [write_line(name, key) for name, (_, key) in made.items()]
    keys = SecretStr("\n".join(lines))
    with serving(service_settings, keys=keys, metrics="key", docs="key") as client:
        yield Scoped(client, {name: secret for name, (secret, _) in made.items()})


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("searcher", "/search", 200),
        ("searcher", "/encode", 403),
        ("searcher", "/info", 200),
        ("searcher", "/docs", 200),
        ("searcher", "/metrics", 403),
        ("searcher", "/admin/reload", 403),
        ("searcher", "/nowhere", 404),
        ("encoder", "/search", 403),
        ("encoder", "/encode", 200),
        ("admin", "/metrics", 200),
        ("admin", "/search", 403),
    ],
)
def test_a_key_works_only_for_its_scopes(scoped: Scoped, name: str, path: str, status: int) -> None:
    bodies: dict[str, object] = {
        "/search": {"query": "tea"},
        "/encode": {"texts": "tea", "role": "query"},
    }

    response = scoped.ask(name, path, json=bodies.get(path))

    assert response.status_code == status
    if status == 403:
        assert response.json()["title"] == "Forbidden"
        assert name in response.json()["detail"]


def test_a_key_above_its_rate_limit_gets_429_with_retry_after(scoped: Scoped) -> None:
    first = scoped.ask("seldom", "/search", json={"query": "tea"})
    second = scoped.ask("seldom", "/search", json={"query": "tea"})

    assert [first.status_code, second.status_code] == [200, 429]
    assert second.json()["title"] == "Too many requests"
    assert second.headers["Retry-After"] == "100"
    metrics = scoped.ask("admin", "/metrics").text
    assert 'clear_key_requests_total{key="seldom",result="passed"} 1.0' in metrics
    assert 'clear_key_requests_total{key="seldom",result="rate"} 1.0' in metrics
    assert 'clear_refusals_total{reason="rate"} 1.0' in metrics


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": "tea " * 30}),
        ("/search", {"queries": ["green tea", "black tea", "tea"]}),
        ("/encode", {"texts": ["tea"] * 9, "role": "query"}),
    ],
)
def test_more_tokens_than_the_key_may_have_are_refused_before_encoding(
    scoped: Scoped, path: str, body: object
) -> None:
    response = scoped.ask("small", path, json=body)

    assert response.status_code == 413
    assert "the key may have 8 in flight" in response.json()["detail"]


def test_the_limit_of_a_key_is_named_also_if_the_body_comes_in_chunks(scoped: Scoped) -> None:
    headers = {
        "Authorization": f"Bearer {scoped.secrets['small']}",
        "Content-Type": "application/json",
    }

    response = scoped.client.post(
        "/search", content=iter([b'{"query": "', b"tea " * 30, b'"}']), headers=headers
    )

    assert response.status_code == 413
    assert "the key may have 8 in flight" in response.json()["detail"]


def test_a_key_s_tokens_are_released_after_the_response(scoped: Scoped) -> None:
    answers = [scoped.ask("small", "/search", json={"query": "a"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3


@pytest.mark.parametrize(
    ("setting", "path"), [("metrics", "/metrics"), ("docs", "/docs"), ("docs", "/openapi.json")]
)
def test_a_closed_path_is_not_found(service_settings: Settings, setting: str, path: str) -> None:
    with serving(service_settings, **{setting: "closed"}) as client:
        response = client.get(path)

        assert response.status_code == 404
        assert response.json()["detail"] == "there is no such path: see /docs"
        assert client.post("/search", json={"query": "tea"}).status_code == 200


def test_no_option_of_a_command_takes_a_key() -> None:
    """Every user of the machine can read command lines."""
    modules = (index_admin, index_build, keys, main, options)
    source = "".join(Path(module.__file__).read_text() for module in modules)

    assert "--api-key" not in source
    assert "api_key" not in source
