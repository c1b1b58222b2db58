"""A real Prometheus scrapes a service under load: every panel and alert finds its data."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import RunningServer, running, wait_until
from tests.support.prometheus_server import CONFIGURATION, Prometheus, running_prometheus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="apt-get install prometheus"),
]
DASHBOARD = Path(__file__).resolve().parents[2] / "k8s" / "monitoring" / "dashboard.json"
LOAD_SECONDS = 12
REQUESTS: list[tuple[str, object]] = [
    ("/search", {"query": "Where is Lima?", "language": "en"}),
    ("/search", {"query": "Wo liegt Lima, und wie viele Menschen leben dort?"}),
    ("/search", {"queries": ["¿Dónde está Lima?", "很长" * 300]}),
    ("/search", {"query": ""}),
    ("/encode", {"texts": ["Lima lies on the coast."], "role": "passage"}),
]
# Alerts that a healthy service does not fire, and why their expressions are empty.
QUIET = {
    "ClearSearchSlowNow": "searches are fast",
    "ClearSearchSlow": "searches are fast",
    "ClearErrors": "nothing fails",
    "ClearRefusals": "nothing is refused for lack of room",
    "ClearNotReady": "the instance is ready",
    "ClearAllDown": "the instance answers",
    "ClearIndexOld": "the index was built just now",
    "ClearIndexesDiffer": "there is one instance",
    "ClearLanguageDrift": "scores do not change",
    "ClearDeviceMemory": "there is memory left",
    "ClearReloadRefused": "the index is whole",
}


def ask_for(server: RunningServer, seconds: float) -> None:
    end, number = time.monotonic() + seconds, 0
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    while time.monotonic() < end:
        path, body = REQUESTS[number % len(REQUESTS)]
        number += 1
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


@pytest.fixture(scope="module")
def watched(
    tiny_checkpoint: Path, tiny_index: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        running(tiny_checkpoint, tiny_index) as server,
        running_prometheus(folder, server.port, "1s", wait_until) as prometheus,
    ):
        clients = [threading.Thread(target=ask_for, args=(server, LOAD_SECONDS)) for _ in range(3)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        time.sleep(2)  # for the last scrape and the evaluation of the rules
        prometheus.moment = time.time()  # the tests below query this moment
        yield prometheus


def panels() -> list[tuple[str, str]]:
    return [
        (f"{panel['title']}, {target['refId']}", target["expr"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def alerts() -> dict[str, Any]:
    groups = yaml.safe_load((CONFIGURATION / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def records() -> list[str]:
    groups = yaml.safe_load((CONFIGURATION / "alerts.yaml").read_text())["groups"]
    return [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]


@pytest.mark.parametrize(("name", "expression"), panels(), ids=[name for name, _ in panels()])
def test_a_panel_shows_numbers(watched: Prometheus, name: str, expression: str) -> None:
    found = watched.query(expression.replace("$__rate_interval", "15s"))

    assert found
    assert all(sample["value"][1] != "NaN" for sample in found)


def test_latency_is_measured_by_language(watched: Prometheus) -> None:
    found = watched.query("sum by (language) (clear_query_duration_seconds_count)")

    assert {"en", "de", "es"} <= {sample["metric"]["language"] for sample in found}


@pytest.mark.parametrize("record", records())
def test_a_recorded_rule_has_a_value(watched: Prometheus, record: str) -> None:
    assert watched.query(record)


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_is_evaluated_and_quiet_for_a_reason(watched: Prometheus, alert: str) -> None:
    [rule] = [
        rule
        for group in watched.get("rules")["groups"]
        for rule in group["rules"]
        if rule["name"] == alert
    ]

    assert rule["health"] == "ok", rule.get("lastError")
    assert watched.query(alerts()[alert]["expr"]) == [], f"it should be quiet: {QUIET[alert]}"


def test_the_target_is_up_and_nothing_of_the_scrape_is_dropped(watched: Prometheus) -> None:
    [target] = watched.get("targets")["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")
