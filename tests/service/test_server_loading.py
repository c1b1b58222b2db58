"""A server process that loads until the test lets it: it waits for a line on its stdin."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.processes import TIMEOUT_SECONDS, RunningServer, wait_until

WAITING = """
import sys
from service import lifespan
from service.__main__ import main
load = lifespan.load_encoder_of
def wait_and_load(*arguments):
    assert sys.stdin.readline()
    return load(*arguments)
lifespan.load_encoder_of = wait_and_load
main()
"""


@contextmanager
def loading(
    encoder: Path, index: Path, prefix: tuple[str, ...] = (), **variables: str
) -> Iterator[tuple[RunningServer, Callable[[], None]]]:
    """Start a server; yield it while it loads, and what lets it load."""
    command = [*prefix, sys.executable, "-c", WAITING, "serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--encoder", str(encoder), "--index", str(index)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def load() -> None:
        assert process.stdin is not None
        process.stdin.write("load\n")
        process.stdin.flush()

    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                yield RunningServer(process, int(found[1])), load
                break
        else:
            raise AssertionError("the server did not listen")
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str) -> tuple[int, dict[str, str], str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        body = json.dumps({"query": "tea"}) if method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()


def test_while_loading_the_port_answers_and_says_what_is_loaded(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    with loading(tiny_checkpoint, tiny_index) as (server, load):
        wait_until(lambda: "loading the encoder" in ask(server.port, "GET", "/readyz")[2])

        assert ask(server.port, "GET", "/livez")[0] == 200
        status, _, metrics = ask(server.port, "GET", "/metrics")
        assert status == 200
        assert "\nclear_ready 0.0" in metrics
        status, headers, page = ask(server.port, "GET", "/?q=tea")
        assert (status, headers["cache-control"]) == (200, "no-cache")
        assert "The service is starting." in page
        assert '<meta http-equiv="refresh" content="2">' in page
        assert ask(server.port, "GET", "/web/style.css")[0] == 200
        for method, path in [
            *(("GET", path) for path in ("/readyz", "/info", "/docs", "/v1/models", "/nowhere")),
            *(("POST", path) for path in ("/search", "/encode", "/v1/embeddings", "/admin/reload")),
        ]:
            status, headers, problem = ask(server.port, method, path)
            assert (status, headers["retry-after"]) == (503, "2"), path
            assert headers["content-type"] == "application/problem+json"
            content = json.loads(problem)
            assert content["detail"] == (
                "the service is loading (loading the encoder): try again in 2 s"
            )
            assert content["request_id"] == headers["x-request-id"]
            assert ("error" in content) == path.startswith("/v1/")

        load()
        statuses = []
        while 200 not in statuses:  # no request is lost at the hand-over
            statuses.append(ask(server.port, "GET", "/readyz")[0])
            time.sleep(0.005)
        assert set(statuses) == {200, 503}
        wait_until(lambda: children_of(server.process.pid) == [])  # the responder has ended
        assert ask(server.port, "POST", "/search")[0] == 200
        assert "http-equiv" not in ask(server.port, "GET", "/")[2]
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


@pytest.mark.parametrize(
    ("sent", "exit_code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_while_loading_ends_the_server_in_one_line(
    tiny_checkpoint: Path, tiny_index: Path, sent: signal.Signals, exit_code: int
) -> None:
    with loading(tiny_checkpoint, tiny_index, CLEAR_DRAIN_SECONDS="3600") as (server, _):
        wait_until(lambda: ask(server.port, "GET", "/livez")[0] == 200)
        server.process.send_signal(sent)
        code, log = server.end()

    assert code == exit_code
    wait_until(lambda: not server.is_listening())  # the responder has ended, too
    assert log.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in log


@pytest.mark.slow
def test_what_cannot_be_loaded_ends_the_server_in_one_line(
    tiny_checkpoint: Path, index_copy: Path
) -> None:
    next(index_copy.glob("generations/*/vectors.faiss")).unlink()

    with loading(tiny_checkpoint, index_copy) as (server, load):
        wait_until(lambda: ask(server.port, "GET", "/livez")[0] == 200)
        load()
        code, log = server.end()

    assert code == 1
    assert log.splitlines()[-1].startswith("error: ")
    assert "vectors.faiss is missing" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_the_responder_ends_with_a_killed_service(tiny_checkpoint: Path, tiny_index: Path) -> None:
    with loading(tiny_checkpoint, tiny_index) as (server, _):
        wait_until(lambda: ask(server.port, "GET", "/livez")[0] == 200)
        (responder,) = children_of(server.process.pid)
        server.process.kill()

        wait_until(lambda: not is_running(responder))
        assert not server.is_listening()


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in listed.split()]


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"  # its parent was killed, and nobody has reaped it yet


@pytest.mark.slow
def test_a_service_whose_responder_was_killed_becomes_ready(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    with loading(tiny_checkpoint, tiny_index) as (server, load):
        wait_until(lambda: "loading the encoder" in ask(server.port, "GET", "/readyz")[2])
        os.kill(children_of(server.process.pid)[0], signal.SIGKILL)
        load()

        assert ask(server.port, "GET", "/readyz")[0] == 200  # it waited in the socket
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
