"""Clients that send or read slowly, stop halfway, or open many connections."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from tests.attacks.victim import MAX_CONNECTIONS, QUERY, READ_SECONDS, Victim, head, request
from tests.support.processes import wait_until

TIMED_OUT = f"the request was not complete after {READ_SECONDS} s".encode()


BEGINNINGS = [
    b"\r\n",
    b"POST",
    b"POST /search HTTP/1.1\r\nHost: x\r\nA: b",
    head(lines=["Content-Length: 100"]),
    head(lines=["Content-Length: 100"]) + QUERY,
    head(lines=["Transfer-Encoding: chunked"]) + b"5\r\n{",
    head(lines=["Transfer-Encoding: chunked"]) + b"1\r\n{\r\n0\r\nA: b\r\n",
]


def test_a_client_that_stops_halfway_gets_408_and_is_disconnected(victim: Victim) -> None:
    with ThreadPoolExecutor(len(BEGINNINGS)) as pool:
        conversations = list(pool.map(victim.talk, BEGINNINGS))

    assert [each.statuses for each in conversations] == [[408]] * len(BEGINNINGS)
    assert all(each.is_closed and TIMED_OUT in each.body for each in conversations)


def test_a_client_that_sends_nothing_is_disconnected_without_a_response(victim: Victim) -> None:
    """Browsers and probes also open connections without sending a request."""
    conversation = victim.talk()

    assert conversation.received == b""
    assert conversation.is_closed


@pytest.mark.parametrize("path", ["/search", "/nowhere"])
def test_a_body_sent_byte_by_byte_has_no_more_time_than_any_other(
    victim: Victim, path: str
) -> None:
    """Such a client kept its connection forever: each byte restarted the timeout."""
    drops = [b"a"] * round(READ_SECONDS * 1.5 / 0.05)

    conversation = victim.talk(
        head(path=path, lines=["Content-Length: 1000"]), *drops, gap_seconds=0.05
    )

    assert conversation.statuses == [408 if path == "/search" else 404]
    assert conversation.is_closed


def test_a_head_sent_byte_by_byte_is_answered_if_complete_in_time(victim: Victim) -> None:
    whole = request()

    conversation = victim.talk(*(whole[i : i + 1] for i in range(len(whole))))

    assert conversation.statuses == [200]


def test_an_idle_connection_is_kept_for_a_while_and_then_closed(victim: Victim) -> None:
    two = head("GET", "/livez") * 2

    conversation = victim.talk(two)

    assert conversation.statuses == [200, 200]
    assert conversation.is_closed


def test_half_of_a_next_request_does_not_lose_the_first_response(victim: Victim) -> None:
    conversation = victim.talk(head("GET", "/livez") + b"GET /livez HTTP/1.1\r\n")

    assert conversation.statuses == [200, 408]


@pytest.mark.parametrize("body", [QUERY, QUERY[:-1]])
def test_a_half_closed_connection_ends(victim: Victim, body: bytes) -> None:
    conversation = victim.talk(head(lines=[f"Content-Length: {len(QUERY)}"]) + body, shut=True)

    assert conversation.is_closed
    assert set(conversation.statuses) <= {200}


def test_a_client_that_leaves_halfway_is_counted_as_gone(victim: Victim) -> None:
    series = 'clear_refusals_total{reason="gone"}'
    before = victim.value(series)

    for _ in range(10):
        with closing(victim.connect()) as client:
            client.sendall(head(lines=["Content-Length: 100"]) + QUERY)

    wait_until(lambda: victim.value(series) == before + 10)


@pytest.mark.slow
def test_a_client_that_does_not_read_the_response_is_disconnected(victim: Victim) -> None:
    """The responses filled the server's memory, and the request never ended."""
    asked = head("GET", "/openapi.json")
    with closing(victim.connect(receive_bytes=4096)) as client:
        client.settimeout(1)
        deadline = time.monotonic() + 30
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                try:
                    client.sendall(asked * 100)
                except TimeoutError:
                    continue


def test_connections_up_to_the_limit_are_answered_and_the_next_is_refused(
    victim: Victim,
) -> None:
    wait_until(lambda: victim.value("clear_requests_in_flight") == 1)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(victim.connect())) for _ in range(MAX_CONNECTIONS)]
        for client in clients:  # accepted by the server, and not closed as silent
            client.sendall(b"GET /livez HTTP/1.1\r\n")
        refused = victim.talk(until=lambda received: b"\r\n\r\n{" in received)

        clients[0].sendall(b"Host: x\r\n\r\n")

        assert refused.statuses == [503]
        assert b"Too many connections" in refused.received
        assert clients[0].recv(12) == b"HTTP/1.1 200"


def test_fifty_slow_clients_delay_no_other(victim: Victim) -> None:
    with ExitStack() as stack:
        slow: list[socket.socket] = []
        for _ in range(50):
            slow.append(stack.enter_context(closing(victim.connect())))
            slow[-1].sendall(head(lines=["Content-Length: 100"]))

        assert victim.ask()[0] == 200
