import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from service.errors import ServiceError
from service.retrieval.build.build import build_index
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.server import bind

SIXTY_SECONDS = 60


@dataclass
class RunningServer:
    """A server process, and what it has logged so far."""

    process: "subprocess.Popen[str]"
    port: int
    log: list[str] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, str]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=SIXTY_SECONDS)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), SIXTY_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True

    def end(self) -> tuple[int, str]:
        """Wait for the end; exit code and log."""
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        return self.process.wait(SIXTY_SECONDS), "".join(self.log) + rest


@contextmanager
def running(encoder: Path, index: Path, **variables: str) -> Iterator[RunningServer]:
    """Run a server until it says that it is ready, and kill what is left of it."""
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
        if found := re.search(r"ready on http://127\.0\.0\.1:(\d+)", line):
            return RunningServer(process, int(found[1]), log)
    raise AssertionError(f"the server did not start: {''.join(log)}")


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SIXTY_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def half_sent_search(port: int, body: bytes) -> Iterator[Callable[[], HTTPResponse]]:
    """Send a request but its last byte; yields what sends that and reads the answer."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=SIXTY_SECONDS)) as connection:
        connection.putrequest("POST", "/search")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])

        def finish() -> HTTPResponse:
            connection.send(body[-1:])
            return connection.getresponse()

        yield finish


def test_sigterm_turns_unready_first_and_answers_what_is_in_flight(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    """The drain is an hour here: the second SIGTERM ends it, so that no clock decides."""
    with (
        running(tiny_checkpoint, tiny_index, CLEAR_DRAIN_SECONDS="3600") as server,
        half_sent_search(server.port, json.dumps({"query": "tea"}).encode()) as finish,
    ):
        wait_until(lambda: "clear_requests_in_flight 2.0" in server.get("/metrics")[1])
        assert server.get("/readyz")[0] == 200

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz")[0] == 503)
        assert server.get("/livez")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.is_listening())
        answer = finish()

        assert answer.status == 200
        assert len(json.loads(answer.read())["results"][0]["hits"]) == 10
        assert server.end()[0] == 0


def test_sighup_serves_what_current_names(
    tiny_checkpoint: Path, index_copy: Path, tiny_encoder: Encoder
) -> None:
    with running(tiny_checkpoint, index_copy, CLEAR_WATCH_SECONDS="0") as server:
        new = build_index([("f", Passage("a", "tea"))], index_copy, tiny_encoder).directory.name
        assert new not in server.get("/info")[1]

        server.process.send_signal(signal.SIGHUP)

        wait_until(lambda: new in server.get("/info")[1])
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_sigterm_right_after_ready_ends_the_server_cleanly(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    """`ready on` was logged before the port listened and before signals were handled."""
    with running(tiny_checkpoint, tiny_index) as server:
        is_listening = server.is_listening()
        server.process.send_signal(signal.SIGTERM)
        exit_code, log = server.end()

    assert is_listening
    assert exit_code == 0
    assert "Traceback" not in log


def test_ctrl_c_ends_the_server_cleanly_and_what_users_asked_is_not_logged(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    with running(tiny_checkpoint, tiny_index, CLEAR_LOG_LEVEL="debug") as server:
        bodies: list[object] = [{"query": "secret"}, {"query": "secret\x00"}, ["secret"]]
        for body in bodies:
            with half_sent_search(server.port, json.dumps(body).encode()) as finish:
                assert finish().status in (200, 400, 422)
        server.process.send_signal(signal.SIGINT)
        exit_code, log = server.end()

    assert exit_code == 0
    assert "secret" not in log
    assert log.count("POST /search") == len(bodies)


def test_port_0_finds_a_free_port() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_taken_by_a_server_that_still_loads_is_refused() -> None:
    """Two servers that started together both took the port; one died later, with a traceback."""
    with bind("127.0.0.1", 0) as loading:
        port = loading.getsockname()[1]

        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1:{port}: another"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"cannot listen on 192\.0\.2\.1:0: .*--host"):
        bind("192.0.2.1", 0)
