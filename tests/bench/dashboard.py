"""Loads a service that a real Prometheus scrapes, and draws its whole dashboard.

Run: python -m tests.bench.dashboard --seconds 120 --to dashboard.png

The index holds the English paragraphs of `--data` (XQuAD); it is updated after a quarter of the
time. Questions in eight languages have Poisson arrivals at `--rate`, doubled in the second half.
All values come from Prometheus' HTTP API, by the dashboard's expressions.
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

from tests.bench.dashboard_picture import Window, draw
from tests.bench.texts import xquad_folder
from tests.support.prometheus_server import free_port, running_prometheus

LANGUAGES = ("en", "ar", "de", "es", "hi", "ru", "vi", "zh")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; raise TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def bodies(data: Path) -> list[bytes]:
    """Return a body for each of XQuAD's questions, alternating the languages and an invalid one."""
    by_language = [
        [
            json.dumps({"query": question["question"], "language": language}).encode()
            for article in json.loads((data / f"xquad.{language}.json").read_text())["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
        for language in LANGUAGES
    ]
    refused = json.dumps({"query": ""}).encode()
    return [body for turn in zip(*by_language, strict=True) for body in (*turn, refused)]


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


def write_passages(data: Path, to: Path) -> list[str]:
    """Write XQuAD's English paragraphs as JSON lines; return the lines."""
    articles = json.loads((data / "xquad.en.json").read_text())["data"]
    texts = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
    lines = [json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(texts)]
    to.write_text("".join(lines))
    return lines


def run_service(*arguments: object) -> None:
    """Run a command of the service to its end."""
    subprocess.run([sys.executable, "-m", "service", *map(str, arguments)], check=True)


async def load_with_swap(
    port: int, asked: list[bytes], rate: float, seconds: float, passages: Path, index: Path
) -> None:
    """Load the service; publish a new generation after a quarter of the time."""

    async def swap() -> None:
        await asyncio.sleep(seconds / 4)
        await asyncio.to_thread(run_service, "index", "update", passages, "--index", index)

    await asyncio.gather(load(port, asked, rate, seconds), swap())


def main() -> None:
    """Run service and Prometheus, load the service, draw the dashboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=xquad_folder(), help="XQuAD's files")
    parser.add_argument("--rate", type=float, default=40, help="requests per second at first")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--to", type=Path, default=Path("tests/bench/results/dashboard.png"))
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        index, passages = Path(folder, "index"), Path(folder, "passages.jsonl")
        lines = write_passages(options.data, passages)
        run_service("index", "build", passages, "--index", index)
        passages.write_text("".join(lines[1:]))
        service = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--index", index, "--port", str(port)],
            env=os.environ | {"CLEAR_QUERY_CACHE_ENTRIES": "0", "CLEAR_LOG_LEVEL": "error"},
        )
        try:
            with running_prometheus(Path(folder), port, "1s", wait_until) as prometheus:
                wait_until(lambda: bool(prometheus.query("clear_ready == 1")))
                asked = bodies(options.data)
                asyncio.run(load(port, asked, options.rate, 20))  # warm-up
                start = time.time()
                work = load_with_swap(port, asked, options.rate, options.seconds, passages, index)
                asyncio.run(work)
                time.sleep(2)
                title = (
                    f"{options.rate:g}, then {2 * options.rate:g} searches per second, "
                    f"{len(LANGUAGES)} languages"
                )
                draw(Window(prometheus, start, time.time() - 1), options.to, title)
        finally:
            service.terminate()
            service.wait(60)


if __name__ == "__main__":
    main()
