"""Starts and stops the measured servers: our service, or Infinity with the same weights.

A server is a separate process without CPU affinity; it shares the cores with the client.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.corpus import ROOT

READY_SECONDS = 300
STOP_SECONDS = 40
INFINITY_MODEL = "bench"
INFINITY_TYPES = {"fp32": "float32", "bf16": "bfloat16"}
INFINITY_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that is ready."""

    name: str
    url: str
    process_id: int
    command: tuple[str, ...]

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def our_service(
    index: Path, port: int, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    """Run the service of this checkout with an index."""
    command = [sys.executable, "-m", "service", "serve", "--index", str(index)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {"CLEAR_LOG_LEVEL": "warning", **environment}
    with run_server("clear", command, port, "/readyz", environment, log) as server:
        yield server


@contextmanager
def infinity(
    venv: Path, checkpoint: Path, precision: str, port: int, log: Path
) -> Iterator[Server]:
    """Run Infinity with torch on the CPU, with a Sentence Transformers folder."""
    command = [str(venv / "bin" / "infinity_emb"), "v2", "--model-id", str(checkpoint)]
    command += ["--served-model-name", INFINITY_MODEL, "--engine", "torch", "--device", "cpu"]
    command += [
        "--dtype",
        INFINITY_TYPES[precision],
        "--no-bettertransformer",
        "--log-level",
        "warning",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with run_server("infinity", command, port, "/health", INFINITY_ENVIRONMENT, log) as server:
        yield server


def scrape(server: Server) -> dict[str, float]:
    """Return the values of /metrics by series, named as Prometheus writes them."""
    text = _get(f"{server.url}/metrics")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {series: float(value) for series, value in pairs}


def served(server: Server) -> dict[str, object]:
    """Return the encoder and the index of our service, from /info."""
    info = json.loads(_get(f"{server.url}/info"))
    encoder, index = info["encoder"], info["index"]
    facts = {key: encoder.get(key) for key in ("name", "fingerprint", "device", "runtime")}
    return {**facts, "passages": index["passages"], "factory": index["factory"]}


def process_tree(process_id: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process_id]
    for each in found:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, task.read_text().split())
    return found


def _read_of_all(process_id: int, name: str) -> Iterator[str]:
    """Read a file of a process and all its descendants in /proc; one may just have ended."""
    for each in process_tree(process_id):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield Path(f"/proc/{each}/{name}").read_text()


def rss_bytes(process_id: int) -> int:
    """Return the resident memory of a process and all its descendants."""
    return sum(memory_bytes(process_id))


def memory_bytes(process_id: int) -> tuple[int, int]:
    """Return the resident memory of a process and its descendants: own memory, pages of files.

    The operating system can reclaim the pages of files.
    """
    own = files = 0
    for statm in _read_of_all(process_id, "statm"):
        resident, shared = map(int, statm.split()[1:3])
        own += resident - shared
        files += shared
    page = os.sysconf("SC_PAGE_SIZE")
    return own * page, files * page


def cpu_seconds(process_id: int) -> float:
    """Return the CPU seconds that a process and all its descendants have used."""
    ticks = 0
    for stat in _read_of_all(process_id, "stat"):
        fields = stat.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def run_server(
    name: str,
    command: Sequence[str],
    port: int,
    ready: str,
    environment: Mapping[str, str],
    log: Path,
) -> Iterator[Server]:
    """Run a command that serves at a port until the block ends; wait until its path answers."""
    log.parent.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file
        )
    try:
        _wait_until_ready(process, url + ready, log)
        yield Server(name, url, process.pid, tuple(command))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with code {process.returncode}: see {log}")
        try:
            _get(url)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"{url} is not ready after {READY_SECONDS} s: see {log}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        content: bytes = response.read()
    return content.decode()
