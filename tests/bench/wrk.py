"""The client of the closed loop: wrk, which needs little CPU, with prepared bodies."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.bench.corpus import ROOT

SCRIPT = ROOT / "tests" / "bench" / "wrk.lua"


def find_wrk() -> str:
    """Return the path of wrk; a benchmark that takes minutes to prepare asks first.

    Raises:
        SystemExit: wrk is not installed.
    """
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    return program


def wrk(url: str, bodies: Path, clients: int, seconds: float) -> dict[str, float]:
    """Run wrk; return requests per second, and latency in ms as wrk counts it.

    wrk corrects for coordinated omission: an answer slower than twice the mean is also counted for
    the requests that it delayed.
    """
    command = [find_wrk(), "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"]
    done = subprocess.run(
        [*command, "--timeout", "60s", "-s", str(SCRIPT), url],
        env={**os.environ, "BENCH_BODIES": str(bodies)},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    raw: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    answered = raw["requests"] - raw["refused"]
    return {
        "clients": clients,
        "requests_per_second": round(answered / raw["microseconds"] * 1e6, 2),
        **{f"{name}_ms": round(raw[name] / 1000, 2) for name in ("p50", "p95", "p99", "max")},
        **{name: raw[name] for name in ("requests", "refused", "timeouts", "broken")},
    }


def settle(url: str, bodies: Path) -> None:
    """Wait until the server has processed the requests that wrk abandoned, and accepts another."""
    with bodies.open("rb") as file:
        body = file.readline().strip()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60):
                return
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503, 504):
                raise SystemExit(f"{url} answers {error.code}: {error.read()!r}") from None
            time.sleep(0.5)
