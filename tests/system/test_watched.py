"""A real Prometheus scrapes a service under load: every panel and alert finds its data."""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import update_index
from tests.support.dashboard import load_dashboard, panels, resolve
from tests.support.processes import RunningServer, running, wait_until
from tests.support.prometheus_server import CONFIGURATION, Prometheus, running_prometheus
from tests.support.relevance import calibrate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="apt-get install prometheus"),
]
LOAD_SECONDS = 8
NAMESPACE = "clear-search"
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
    "ClearLanguageDrift": "a week has not passed",
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
    tiny_checkpoint: Path,
    tiny_index: Path,
    tiny_encoder: Encoder,
    passages_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    index = Path(shutil.copytree(tiny_index, folder / "index"))
    calibrate(index, tiny_encoder.fingerprint)
    with (
        running(tiny_checkpoint, index, CLEAR_WATCH_SECONDS="0") as server,
        running_prometheus(
            folder, server.port, "1s", wait_until, namespace=NAMESPACE
        ) as prometheus,
    ):
        clients = [threading.Thread(target=ask_for, args=(server, LOAD_SECONDS)) for _ in range(3)]
        for client in clients:
            client.start()
        wait_until(lambda: bool(prometheus.query("clear_index_info")))
        update_index(list(read_passages(passages_file))[1:], index, tiny_encoder)
        with urlopen(
            Request(f"http://127.0.0.1:{server.port}/admin/reload", method="POST")
        ) as done:
            assert json.load(done)["result"] == "swapped"
        for client in clients:
            client.join()
        time.sleep(2)  # for the last scrape and the evaluation of the rules
        prometheus.moment = time.time()  # the tests below query this moment
        yield prometheus


def targets() -> list[tuple[str, str]]:
    return [
        (f"{panel['title']}, {target['refId']}", target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]


def alerts() -> dict[str, Any]:
    groups = yaml.safe_load((CONFIGURATION / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def records() -> list[str]:
    groups = yaml.safe_load((CONFIGURATION / "alerts.yaml").read_text())["groups"]
    return [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]


@pytest.mark.parametrize("namespace", [".*", NAMESPACE])
@pytest.mark.parametrize(("name", "expression"), targets(), ids=[name for name, _ in targets()])
def test_a_panel_shows_numbers(
    watched: Prometheus, name: str, expression: str, namespace: str
) -> None:
    found = watched.query(resolve(expression, namespace=namespace))

    assert found
    assert all(sample["value"][1] != "NaN" for sample in found)


@pytest.mark.parametrize(
    ("title", "refused"),
    [("Instances", "namespace"), ("Instances", "instance"), ("Errors (500, 503)", "namespace")],
)
def test_a_panel_shows_zero_where_there_is_no_instance(
    watched: Prometheus, title: str, refused: str
) -> None:
    [panel] = [panel for panel in panels() if panel["title"] == title]

    for target in panel["targets"]:
        [sample] = watched.query(resolve(target["expr"], **{refused: "elsewhere"}))
        assert sample["value"][1] == "0"


def test_the_variables_offer_what_is_scraped(watched: Prometheus) -> None:
    offered = {
        variable["name"]: watched.label_values(resolve(variable["query"]))
        for variable in load_dashboard()["templating"]["list"]
        if variable["type"] == "query"
    }

    assert offered["namespace"] == [NAMESPACE]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", *offered["instance"])


def test_an_index_swap_is_an_annotation(watched: Prometheus) -> None:
    [annotation] = load_dashboard()["annotations"]["list"]
    assert watched.moment is not None

    live = watched.query("clear_index_info")[0]["metric"]["generation"]
    found = watched.query_range(
        resolve(annotation["expr"]), watched.moment - LOAD_SECONDS, watched.moment, 1
    )

    assert live in {series["metric"]["generation"] for series in found}
    assert watched.query(resolve(annotation["expr"]).replace("1m", "1s")) == []


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
