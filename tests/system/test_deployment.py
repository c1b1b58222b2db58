"""The deployment files agree with the code; run as a program, this writes what is derived.

`make deployment` runs the validators of each kind of file.
"""

import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from starlette.routing import Route
from typer.testing import CliRunner

from service.api.operations import router
from service.auth.access import Access
from service.cli.main import app as service_app
from service.settings.settings import Settings, variable
from service.telemetry.metrics import Metrics
from tests.support.dashboard import load_dashboard, panels
from trainer.cli.main import app as trainer_app

ROOT = Path(__file__).resolve().parents[2]
DOCKER, KUBERNETES = ROOT / "docker", ROOT / "k8s"
ALERTS = DOCKER / "prometheus" / "alerts.yaml"
RULE = KUBERNETES / "monitoring" / "prometheus-rule.yaml"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
MANIFESTS = sorted(KUBERNETES.rglob("*.yaml"))
KNOWN_VARIABLES = {variable(name) for name in Settings.model_fields}
SCRAPED_LABELS = ("le", "instance", "job", "namespace")
EXTRAS = {
    "service-cpu": ("cpu", "demo", "tracing", "s3"),
    "service-gpu": ("gpu", "demo", "tracing", "s3"),
    "trainer-cpu": ("cpu", "demo", "train"),
    "trainer-gpu": ("gpu", "demo", "train"),
}


def objects() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from filter(None, yaml.safe_load_all(path.read_text()))


def pod_specs() -> list[tuple[str, dict[str, Any]]]:
    found_specs = []
    for found in objects():
        if found.get("kind") in ("Deployment", "Job") and "containers" in str(found):
            spec = found["spec"]["template"]["spec"]
            if "securityContext" in spec:  # else a patch of one of the others
                found_specs.append((found["metadata"]["name"], spec))
    return found_specs


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def expressions() -> list[str]:
    """Every PromQL expression: of the alerts, of the dashboard, of the autoscaler's metric."""
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    adapter = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text())
    return [
        *(rule["expr"] for rule in rules),
        *(target["expr"] for panel in panels() for target in panel["targets"]),
        *(annotation["expr"] for annotation in load_dashboard()["annotations"]["list"]),
        *(rule["metricsQuery"] for rule in adapter["rules"]["custom"]),
    ]


def prometheus_rule() -> str:
    """Write the alert rules as the Prometheus operator wants them."""
    rules = ALERTS.read_text()
    head = """\
        # Generated from docker/prometheus/alerts.yaml by `python -m tests.system.test_deployment`.
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: clear-search
          namespace: clear-search
        spec:
        """
    return textwrap.dedent(head) + textwrap.indent(rules[rules.index("groups:") :], "  ")


def test_kubernetes_has_the_same_alerts() -> None:
    assert RULE.read_text() == prometheus_rule(), "run: python -m tests.system.test_deployment"


@pytest.mark.parametrize(
    "path",
    [*DOCKERFILES, DOCKER / "compose.yaml", DOCKER / ".env", *MANIFESTS],
    ids=lambda p: p.name,
)
def test_every_setting_named_is_one_of_the_service(path: Path) -> None:
    named = set(re.findall(r"\bCLEAR_[A-Z_]*[A-Z]\b", path.read_text()))

    assert named <= KNOWN_VARIABLES


def test_values_of_settings_are_those_that_the_service_takes() -> None:
    texts = [path.read_text() for path in [*DOCKERFILES, *MANIFESTS]]
    pairs = re.findall(r"\bCLEAR_([A-Z_]+)=([\w./:-]+)", "\n".join(texts))
    pairs += [
        (name.removeprefix("CLEAR_"), value)
        for name, value in compose()["x-service"]["environment"].items()
        if not value.startswith("$")
    ]

    assert len(pairs) > 10
    for name, value in pairs:
        Settings.model_validate({name.lower(): value})


def test_the_port_is_the_same_everywhere() -> None:
    port = Settings().port
    dockerfile = (DOCKER / "service.Dockerfile").read_text()
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    [deployment] = [spec for name, spec in pod_specs() if name == "clear-service"]

    assert f"EXPOSE {port}\n" in dockerfile
    assert f"CLEAR_PORT={port}" in dockerfile
    assert compose()["x-service"]["ports"][0].endswith(f":{port}")
    assert f"clear-service:{port}" in str(scraped["scrape_configs"])
    assert deployment["containers"][0]["ports"] == [{"name": "http", "containerPort": port}]


def test_what_is_probed_and_scraped_is_served_without_a_key() -> None:
    served = {route.path for route in router.routes if isinstance(route, Route)}
    texts = [(DOCKER / "service.Dockerfile").read_text(), *(p.read_text() for p in MANIFESTS)]
    asked = set(re.findall(r"path: (/\w+), p|\}(/readyz)|path: (/metrics)", "\n".join(texts)))
    paths = {path for match in asked for path in match if path}

    assert paths == {"/livez", "/readyz", "/metrics"}
    assert paths <= served
    assert {Access(Settings()).rule(path) for path in paths} == {"open"}


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    records = set(re.findall(r"record: (\S+)", ALERTS.read_text()))
    known = {metric.name: {*metric.labels, *SCRAPED_LABELS} for metric in Metrics().own()}
    asked = re.findall(
        r"\b(clear_\w+?)(?:_bucket|_count|_sum)?(?:\{([^}]*)\})?(?![\w:])", expression
    )

    assert set(re.findall(r"\bclear:[\w:]+", expression)) <= records
    for name, selector in asked:
        assert name in known
        assert set(re.findall(r"(\w+)=", selector.replace("<<.LabelMatchers>>", ""))) <= known[name]


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    cells = [
        (x, y)
        for panel in load_dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def selectors(name: str) -> list[str]:
    """Every selector in the dashboard of a metric whose name matches an expression."""
    return [
        selector
        for panel in panels()
        for target in panel["targets"]
        for selector in re.findall(rf"\b{name}(?:{{([^}}]*)}})?(?![\w:{{])", target["expr"])
    ]


def test_panels_follow_the_variables_for_namespace_and_instance() -> None:
    names = [variable["name"] for variable in load_dashboard()["templating"]["list"]]
    assert names == ["datasource", "namespace", "instance"]

    for selector in selectors(r"(?:clear_|process_|up\b)\w*"):
        assert selector.endswith('namespace=~"$namespace",instance=~"$instance"')
    for selector in selectors(r"clear:[\w:]+"):  # recorded for all instances of a namespace
        assert selector == 'namespace=~"$namespace"'
    for selector in selectors("ALERTS"):  # some have no instance or namespace
        assert 'namespace=~"$namespace|",instance=~"$instance|"' in selector


def test_lines_of_panels_are_the_limits_of_the_alerts() -> None:
    lines = {
        panel["title"]: [step["value"] for step in found["thresholds"]["steps"][1:]]
        for panel in panels()
        for found in [panel["fieldConfig"]["defaults"]]
        if "thresholdsStyle" in found.get("custom", {})
    }
    rules = ALERTS.read_text()
    slow = sorted(float(found) for found in re.findall(r"ratio\d+[mh] > ([\d.]+) \*", rules))
    [rise] = re.findall(r"ratio7d > ([\d.]+)\)", rules)
    [objective] = {float(found) for found in re.findall(r'le="([\d.]+)"', rules)}

    assert lines == {
        "Error budget: burn rate": sorted(set(slow)),
        "Error budget left, 30 days": [0],
        "Search: p50, p95, p99": [objective],
        "Search: p95 by language": [objective],
        "Unanswered: rise against the own week": [float(rise)],
    }


def test_every_alert_has_a_test_that_fires_it() -> None:
    alerts = set(re.findall(r"alert: (\w+)", ALERTS.read_text()))
    tests = [
        test
        for path in (DOCKER / "prometheus").glob("*.test.yaml")
        for group in yaml.safe_load(path.read_text())["tests"]
        for test in group.get("alert_rule_test", [])
    ]

    assert {test["alertname"] for test in tests if test["exp_alerts"]} == alerts
    assert {test["alertname"] for test in tests if not test["exp_alerts"]} == alerts


def test_a_pod_has_the_time_to_drain() -> None:
    [spec] = [spec for name, spec in pod_specs() if name == "clear-service"]
    [config] = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())[
        "configMapGenerator"
    ]
    settings = dict(literal.split("=") for literal in config["literals"])
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = before + sum(int(settings[f"CLEAR_{name}_SECONDS"]) for name in ("DRAIN", "SHUTDOWN"))

    assert needed < spec["terminationGracePeriodSeconds"]


def test_a_container_has_the_time_to_drain() -> None:
    service = compose()["x-service"]
    needed = sum(
        int(service["environment"][f"CLEAR_{name}_SECONDS"]) for name in ("DRAIN", "SHUTDOWN")
    )

    assert needed < int(service["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize(("name", "spec"), pod_specs())
def test_a_pod_can_do_as_little_as_possible(name: str, spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # or CLEAR_SERVICE_PORT would be a setting
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"] + spec.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
    mounts = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert {"/tmp", "/var/cache/clear-search"} <= mounts


def test_the_user_is_the_images() -> None:
    for path in DOCKERFILES:
        assert "\nUSER 65532:65532\n" in path.read_text()
    assert {spec["securityContext"]["runAsUser"] for _, spec in pod_specs()} == {65532}


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--build-only", "--index", "DIR"],
        ["index", "build", "FILE"],
        ["index", "upload", "URL", "--index", "DIR", "--keep", "2"],
        ["serve"],
        ["doctor"],
    ],
)
def test_what_containers_run_is_a_command(arguments: list[str]) -> None:
    result = CliRunner().invoke(service_app, [*arguments, "--help"])

    assert result.exit_code == 0, result.output


def test_what_jobs_are_told_to_do_is_tested_above() -> None:
    told = {tuple(c["args"]) for _, spec in pod_specs() for c in spec["containers"]}

    assert told == {
        ("serve",),
        ("demo", "--build-only", "--index", "/index"),
        ("index", "build", "/passages/passages.jsonl"),
        ("train", "/data/config.toml", "--output", "/data/run"),
    }


def test_the_overlay_of_an_object_store_uploads_to_the_url_that_it_serves_without_a_volume() -> (
    None
):
    folder = KUBERNETES / "overlays" / "object-store"
    overlay = yaml.safe_load((folder / "kustomization.yaml").read_text())
    patches = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*-*.yaml")}
    [generated] = overlay["configMapGenerator"]
    literals = dict(literal.split("=") for literal in generated["literals"])
    url, settings = literals["CLEAR_INDEX"], Settings(index=literals["CLEAR_INDEX"])
    job, pods = (
        patches[name]["spec"]["template"]["spec"] for name in ("upload-job", "pulling-deployment")
    )

    assert settings.index == url
    assert job["containers"][0]["args"][:3] == ["index", "upload", url]
    assert patches["no-volume"]["$patch"] == "delete"
    assert patches["no-volume"]["metadata"]["name"] == "clear-index"
    for spec in (job, pods):
        [volume] = spec["volumes"]
        assert volume["name"] == "index"
        assert volume["persistentVolumeClaim"] is None
        assert "emptyDir" in volume
    [mount] = pods["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == literals["CLEAR_INDEX_CACHE"]
    assert mount["readOnly"] is False


def test_the_training_job_runs_a_command() -> None:
    result = CliRunner().invoke(trainer_app, ["train", "--help"])

    assert result.exit_code == 0
    assert all(word in result.output.lower() for word in ("config", "--output"))


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_is_of_what_the_project_asks_for(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in EXTRAS[lock]:
        asked += project["optional-dependencies"][extra]
    text = (DOCKER / f"{lock}.lock").read_text()
    if lock.endswith("-cpu"):
        text += (DOCKER / "torch-cpu.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ \n]+)", text, re.MULTILINE))

    for requirement in map(Requirement, asked):
        assert requirement.name in pinned, "run: docker/lock"
        assert requirement.specifier.contains(pinned[requirement.name]), "run: docker/lock"


def test_the_service_image_has_no_training_stack_and_the_cpu_images_no_cuda() -> None:
    for lock in EXTRAS:
        text = (DOCKER / f"{lock}.lock").read_text()
        assert ("sentence-transformers==" in text) == lock.startswith("trainer")
        assert bool(re.search(r"^(nvidia|cuda)-", text, re.MULTILINE)) == lock.endswith("gpu")


if __name__ == "__main__":
    RULE.write_text(prometheus_rule())
