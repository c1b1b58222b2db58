"""Server processes for tests: start one, wait for it, ask it, end it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

TIMEOUT_SECONDS = 60


@dataclass
class RunningServer:
    """A server process and the lines that it has logged so far."""

    process: "subprocess.Popen[str]"
    port: int
    log: list[str] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, str]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True

    def end(self) -> tuple[int, str]:
        """Wait for the process to end; return its exit code and its whole log."""
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        return self.process.wait(TIMEOUT_SECONDS), "".join(self.log) + rest


@contextmanager
def running(encoder: Path, index: Path, **variables: str) -> Iterator[RunningServer]:
    """Start a server, wait until it logs that it is ready, and kill it at the end of the block."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--encoder", str(encoder), "--index", str(index)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _when_ready(process)
    finally:
        process.kill()
        process.communicate()


def _when_ready(process: "subprocess.Popen[str]") -> RunningServer:
    log = []
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line)
        if found := re.search(r"ready on http://\S+:(\d+)", line):
            return RunningServer(process, int(found[1]), log)
    raise AssertionError(f"the server did not start: {''.join(log)}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after a minute."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def half_sent_search(port: int, body: bytes) -> Iterator[Callable[[], HTTPResponse]]:
    """Send a request except its last byte; yield what sends it and reads the response."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.putrequest("POST", "/search")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])

        def finish() -> HTTPResponse:
            connection.send(body[-1:])
            return connection.getresponse()

        yield finish
