"""Faulty clients of a running server; the next request is answered."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.processes import (
    TIMEOUT_SECONDS,
    RunningServer,
    half_sent_search,
    running,
    wait_until,
)

QUERY = json.dumps({"query": "tea"}).encode()
BULK = json.dumps({"texts": ["a long text of many words " * 30] * 256, "role": "passage"}).encode()


def request_bytes(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(port: int) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("POST", "/search", QUERY, {"Content-Type": "application/json"})
        return connection.getresponse().status


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tiny_index: Path) -> Iterator[RunningServer]:
    """A server whose queue has room for all."""
    with running(tiny_checkpoint, tiny_index, CLEAR_MAX_WAITING_TOKENS="10000000") as server:
        yield server


@pytest.mark.slow
def test_clients_that_leave_are_counted_and_dropped(server: RunningServer) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(request_bytes("/encode", BULK))

    wait_until(lambda: 'clear_refusals_total{reason="gone"}' in server.get("/metrics")[1])
    wait_until(lambda: "clear_waiting_tokens 0.0" in server.get("/metrics")[1])
    assert ask(server.port) == 200


@pytest.mark.slow
def test_a_client_that_sends_byte_by_byte_delays_no_other(server: RunningServer) -> None:
    with ExitStack() as slow_clients:
        for _ in range(50):
            slow = socket.create_connection(("127.0.0.1", server.port))
            slow_clients.enter_context(slow)
            slow.sendall(request_bytes("/search", QUERY)[:-1])

        assert ask(server.port) == 200

        slow.sendall(b"}")
        assert slow.recv(12) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_sigterm_loses_no_request_in_flight(server: RunningServer) -> None:
    """It ends the server of the tests above."""
    with ExitStack() as requests:
        finish = [requests.enter_context(half_sent_search(server.port, QUERY)) for _ in range(30)]
        wait_until(lambda: "clear_requests_in_flight 31.0" in server.get("/metrics")[1])

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.is_listening())
        statuses = [answer().status for answer in finish]

        assert statuses == [200] * 30
        assert server.end()[0] == 0
