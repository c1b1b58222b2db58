"""The Grafana dashboard as data, and its expressions as Grafana sends them to Prometheus."""

import json
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).resolve().parents[2] / "k8s" / "monitoring" / "dashboard.json"
ALL = ".*"  # the value of "All" in the variables `namespace` and `instance`


def load_dashboard() -> dict[str, Any]:
    """Return the parsed dashboard."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Return the panels that show data, without the rows' titles."""
    return [panel for panel in load_dashboard()["panels"] if panel["type"] != "row"]


def resolve(
    expression: str, interval: str = "15s", namespace: str = ALL, instance: str = ALL
) -> str:
    """Return an expression with values for the variables."""
    for name, value in {
        "$__rate_interval": interval, "$namespace": namespace, "$instance": instance,
    }.items():  # fmt: skip
        expression = expression.replace(name, value)
    return expression
