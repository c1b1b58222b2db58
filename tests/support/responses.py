"""Checks of responses: problems, and samples of `/metrics`."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient


def assert_problem(response: Any, status: int, field: str | None) -> None:
    """Assert that a response is a problem (RFC 9457) of a status, about a field or none."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:clear-search:problem:")
    assert problem["title"] and problem["detail"]
    assert problem.get("field") == field


def sample(client: TestClient, name: str, /, **labels: str) -> float:
    """Return the sum of a metric's samples that have the labels; 0 if there are none yet."""
    values = [
        found.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for found in family.samples
        if found.name == name and labels.items() <= found.labels.items()
    ]
    return sum(values)
