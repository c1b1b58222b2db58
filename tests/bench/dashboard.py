"""Loads a service that a real Prometheus scrapes, and plots the dashboard's latency panels.

Run: python -m tests.bench.dashboard --index DIR --seconds 120 --to panels.png

Questions in eight languages come from `--data` (XQuAD), with Poisson arrivals at `--rate`, doubled
in the second half. All values come from Prometheus' HTTP API, by the dashboard's expressions.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt

from tests.bench.texts import xquad_folder
from tests.support.prometheus_server import Prometheus, free_port, running_prometheus

DASHBOARD = Path(__file__).resolve().parents[2] / "k8s" / "monitoring" / "dashboard.json"
PANELS = {
    "Search: p50, p95, p99": "ms",
    "Search: mean time by stage": "ms",
    "p95": "ms",
    "Cosine of the best hit": "",
}
LANGUAGES = ("en", "ar", "de", "es", "hi", "ru", "vi", "zh")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; raise TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def bodies(data: Path) -> list[bytes]:
    """Return a request body for each of XQuAD's questions, alternating the languages."""
    by_language = [
        [
            json.dumps({"query": question["question"], "language": language}).encode()
            for article in json.loads((data / f"xquad.{language}.json").read_text())["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
        for language in LANGUAGES
    ]
    return [body for turn in zip(*by_language, strict=True) for body in turn]


async def ask(port: int, body: bytes) -> None:
    """Send one request on a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /search HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await reader.read()
    writer.close()


async def load(port: int, asked: list[bytes], rate: float, seconds: float) -> None:
    """Send requests at their arrival times (open loop); double the rate in the second half."""
    clock, started, number = random.Random(0), time.monotonic(), 0
    tasks: set[asyncio.Task[None]] = set()
    while (passed := time.monotonic() - started) < seconds:
        task = asyncio.create_task(ask(port, asked[number % len(asked)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(clock.expovariate(rate * (2 if passed > seconds / 2 else 1)))
    await asyncio.gather(*tasks)


def draw(prometheus: Prometheus, start: float, end: float, to: Path, title: str) -> None:
    """Plot the panels with values from Prometheus' API."""
    expressions = {
        panel["title"]: panel["targets"] for panel in json.loads(DASHBOARD.read_text())["panels"]
        if panel["title"] in PANELS
    }  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.2), layout="constrained")
    for axis, (name, unit) in zip(axes.flat, PANELS.items(), strict=True):
        factor = 1000 if unit == "ms" else 1
        for target in expressions[name]:
            expression = target["expr"].replace("$__rate_interval", "15s")
            for series in prometheus.query_range(expression, start, end, 2):
                points = [(float(x) - start, float(y) * factor) for x, y in series["values"]]
                legend = target["legendFormat"]
                for label, value in series["metric"].items():
                    legend = legend.replace("{{" + label + "}}", value)
                axis.plot(*zip(*points, strict=True), label=legend, linewidth=1.2)
        axis.set_title(name if name != "p95" else "Search: p95 by language", fontsize=10)
        axis.set_ylabel(unit)
        axis.set_xlabel("seconds")
        axis.legend(fontsize=7, ncols=3, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(to, dpi=80)


def main() -> None:
    """Run service and Prometheus, load the service, plot the panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=xquad_folder(), help="XQuAD's files")
    parser.add_argument("--rate", type=float, default=40, help="requests per second at first")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--to", type=Path, default=Path("tests/bench/results/dashboard.png"))
    options = parser.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "service", "serve", "--index", str(options.index)]
    with tempfile.TemporaryDirectory() as folder:
        service = subprocess.Popen(
            [*command, "--port", str(port)],
            env=os.environ | {"CLEAR_QUERY_CACHE_ENTRIES": "0", "CLEAR_LOG_LEVEL": "error"},
        )
        try:
            with running_prometheus(Path(folder), port, "1s", wait_until) as prometheus:
                wait_until(lambda: bool(prometheus.query("clear_ready == 1")))
                asked = bodies(options.data)
                asyncio.run(load(port, asked, options.rate, 10))  # warm-up
                start = time.time()
                asyncio.run(load(port, asked, options.rate, options.seconds))
                time.sleep(2)
                title = (
                    f"{options.rate:g}, then {2 * options.rate:g} searches per second, "
                    f"{len(LANGUAGES)} languages"
                )
                draw(prometheus, start + 15, start + options.seconds, options.to, title)
        finally:
            service.terminate()
            service.wait(60)


if __name__ == "__main__":
    main()
