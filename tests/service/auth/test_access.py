import pytest
from fastapi.routing import APIRoute as Route
from starlette.testclient import TestClient

from service.auth.access import Access
from service.settings.settings import Settings

PUBLIC = ["/livez", "/readyz", "/metrics", "/", "/docs", "/openapi.json", "/web/search.js"]


def test_every_route_is_listed_as_open_or_requires_a_key(client: TestClient) -> None:
    """A new route that is listed nowhere requires a key."""
    access = Access(Settings())
    paths = {route.path for route in client.app.routes if isinstance(route, Route)}  # type: ignore[attr-defined]

    opened = {path for path in paths if access.rule(path) == "open"}

    below = {"/static-offline-docs", "/docs/oauth2-redirect", "/web/examples.json"}
    assert opened <= {*PUBLIC, *below}


@pytest.mark.parametrize(
    ("path", "on_main", "on_operations"),
    [
        ("/search", "search", "closed"),
        ("/", "open", "closed"),
        ("/info", "key", "closed"),
        ("/metrics", "closed", "open"),
        ("/docs", "closed", "open"),
        ("/openapi.json", "closed", "open"),
        ("/admin/reload", "closed", "admin"),
        ("/livez", "open", "open"),
        ("/readyz", "open", "open"),
    ],
)
def test_the_operations_port_serves_metrics_docs_and_admin_routes(
    path: str, on_main: str, on_operations: str
) -> None:
    access = Access(Settings(operations_port=9000))

    assert access.rule(path, 8000) == on_main
    assert access.rule(path, 9000) == on_operations


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/v1/models", "encode"),
        ("/v1/models/tiny", "encode"),
        ("/v1/embeddings/", "encode"),
        ("/v1", "key"),
        ("/search/", "key"),
        ("/docs/", "key"),
        ("/web", "open"),
        ("/livez/", "key"),
        ("/metrics/", "key"),
        ("/admin", "admin"),
        ("/admin/reload/", "admin"),
        ("//", "key"),
        ("/website", "key"),
    ],
)
def test_a_path_below_v1_has_its_rule_and_one_that_does_not_exist_requires_a_key(
    path: str, rule: str
) -> None:
    assert Access(Settings()).rule(path) == rule
