"""A real Prometheus on loopback, with the configuration of docker/prometheus."""

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

CONFIGURATION = Path(__file__).resolve().parents[2] / "docker" / "prometheus"


class Prometheus:
    """Asks a Prometheus over its HTTP API."""

    def __init__(self, port: int) -> None:
        """Keep the address of the server."""
        self._base = f"http://127.0.0.1:{port}"
        self.moment: float | None = None  # that queries ask for; None is now

    def get(self, path: str, **parameters: object) -> Any:
        """Return `data` of a response of the API."""
        query = urllib.parse.urlencode(parameters)
        url = f"{self._base}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current samples of an expression; a scalar is one sample."""
        moment = {} if self.moment is None else {"time": self.moment}
        data = self.get("query", query=expression, **moment)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return list(data["result"])

    def label_values(self, variable: str) -> list[str]:
        """Return the values of a dashboard's variable, `label_values(selector, label)`."""
        selector, label = variable.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        return list(self.get(f"label/{label}/values", **{"match[]": selector}))

    def query_range(
        self, expression: str, start: float, end: float, step_seconds: float
    ) -> list[dict[str, Any]]:
        """Return the samples of an expression over time."""
        return list(
            self.get("query_range", query=expression, start=start, end=end, step=step_seconds)[
                "result"
            ]
        )

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running_prometheus(
    folder: Path,
    service_port: int,
    interval: str,
    wait_until: Callable[[Callable[[], bool]], None],
    **labels: str,
) -> Iterator[Prometheus]:
    """Run a Prometheus with the deployed configuration that scrapes a service on this machine.

    The labels are added to the target, as the operator of Kubernetes adds `namespace`.
    """
    configuration = yaml.safe_load((CONFIGURATION / "prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    [job] = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{service_port}"], "labels": labels}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    shutil.copy(CONFIGURATION / "alerts.yaml", folder)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    prometheus = Prometheus(port)
    try:
        wait_until(prometheus.is_ready)
        yield prometheus
    finally:
        process.terminate()
        process.wait(60)
