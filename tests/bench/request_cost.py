"""CPU time of a request in the server, compared with another checkout in turns (A B A B).

Run: python -m tests.bench.request_cost --against ../other-checkout --requests 2000

The encoder is a random one of two layers and its answers are cached, so that the remaining cost is
HTTP, middleware, validation, queue and answer. There is one client with a keep-alive connection.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.error import URLError
from urllib.request import urlopen

from service.auth.keys import make_key, write_line
from tests.bench.corpus import ROOT
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.bench.servers import cpu_seconds
from tests.bench.tiny_service import tiny_service

BODY = json.dumps({"query": "tea", "top_k": 10, "language": "en"}).encode()
START_SECONDS = 120


@contextmanager
def serving(checkout: Path, index: Path, port: int, settings: dict[str, str]) -> Iterator[int]:
    """Run the service of a checkout; yield its process id."""
    command = [sys.executable, "-m", "service", "serve", "--index", str(index)]
    environment = {**os.environ, "CLEAR_LOG_LEVEL": "warning", "CLEAR_DEVICE": "cpu", **settings}
    process = subprocess.Popen([*command, "--port", str(port)], cwd=checkout, env=environment)
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except (URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the service of {checkout} does not become ready") from None
                time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def block(port: int, process_id: int, requests: int, headers: dict[str, str]) -> float:
    """Send some requests; return the CPU milliseconds per request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    before = cpu_seconds(process_id)
    for _ in range(requests):
        connection.request("POST", "/search", BODY, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    spent = cpu_seconds(process_id) - before
    connection.close()
    return spent / requests * 1000


def compare(options: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the services in turns."""
    index, settings = tiny_service(options.work / "tiny")
    secret, key = make_key(["search"], requests_per_second=1e6, max_tokens=10**6)
    guarded = settings | {"CLEAR_KEYS": write_line("bench", key)}
    cases = {
        "other": (options.against, settings, {}),
        "this": (ROOT, settings, {}),
        "this, with a key": (ROOT, guarded, {"Authorization": f"Bearer {secret}"}),
    }
    plain = {"Content-Type": "application/json"}
    found: dict[str, list[float]] = {name: [] for name in cases}
    with ExitStack() as stack:
        running = []
        for number, (name, (checkout, given, headers)) in enumerate(cases.items()):
            port = options.port + number
            process = stack.enter_context(serving(checkout, index, port, given))
            running.append((name, port, process, plain | headers))
        for turn in range(options.rounds + 1):
            for name, port, process, headers in running:
                spent = block(port, process, options.requests, headers)
                if turn:  # the first turn is a warm-up
                    found[name].append(round(spent, 4))
    return found


def main() -> None:
    """Compare the checkouts; print and write the result."""
    made = parser(__doc__)
    made.add_argument("--against", type=Path, required=True, help="a checkout of another commit")
    made.add_argument("--requests", type=int, default=2000)
    made.add_argument("--rounds", type=int, default=5)
    options = made.parse_args()
    found = compare(options)
    middle = {name: round(median(values), 4) for name, values in found.items()}
    ratios = {name: round(value / middle["other"], 3) for name, value in middle.items()}
    say(f"CPU ms per request: {middle}")
    say(f"ratio to the other checkout: {ratios}")
    write_result("request_cost", options, {"cpu_ms": found, "median": middle, "ratio": ratios})


if __name__ == "__main__":
    main()
