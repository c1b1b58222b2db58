"""The program in a process of its own, driven as the service drives it."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from service.listeners import bind
from service.loading.responder import PROGRAM
from tests.support.processes import TIMEOUT_SECONDS

OK = ("HTTP/1.1 200 OK\r\n\r\n", "live")
OTHER = ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "loading")
Program = tuple["subprocess.Popen[bytes]", Callable[[bytes], bytes], int]


@pytest.fixture
def program() -> Iterator[Program]:
    """A program that answers, and what sends bytes to it and returns the answer."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-I", "-S", PROGRAM, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        ) as process:
            write(process, json.dumps([{"/livez": OK, "": OTHER}]))

            def talk(request: bytes) -> bytes:
                with connected(port) as client:
                    client.sendall(request)
                    return client.makefile("rb").read()

            yield process, talk, port
            process.kill()


def connected(port: int) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS))


def write(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x", "".join(OK)),
        (b"GET /livez?a=/b HTTP/1.0", "".join(OK)),
        (b"\r\nGET /livez HTTP/1.1", "".join(OK)),
        (b"HEAD /livez HTTP/1.1", OK[0]),
        (b"POST /livez HTTP/1.1", "".join(OTHER)),
        (b"GET /readyz HTTP/1.1", "".join(OTHER)),
        (b"HEAD /readyz HTTP/1.1", OTHER[0]),
        (b"GET", "".join(OTHER)),
        (b"\x16\x03\x01\x02", "".join(OTHER)),
    ],
)
def test_a_request_is_answered_by_method_and_path(
    program: Program, request_head: bytes, expected: str
) -> None:
    assert program[1](request_head + b"\r\n\r\n") == expected.encode()


def test_a_client_that_sends_a_large_body_first_gets_its_answer(program: Program) -> None:
    head = b"POST /encode HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n"

    assert program[1](head + bytes(8_000_000)) == "".join(OTHER).encode()


def test_a_head_without_an_end_is_answered(program: Program) -> None:
    assert program[1](b"GET /livez HTTP/1.1\r\nA: " + b"a" * 70_000) == "".join(OK).encode()


def test_a_large_answer_is_sent_whole(program: Program) -> None:
    process, talk, _ = program
    body = "a" * 8_000_000
    write(process, json.dumps([{"": ["", body]}]))
    received = b""
    while len(received) < 100:  # the first request may come before the line
        received = talk(b"GET / HTTP/1.1\r\n\r\n")

    assert received == body.encode()


def test_after_an_empty_line_only_open_connections_are_answered(program: Program) -> None:
    process, talk, port = program
    with connected(port) as early:
        early.sendall(b"GET /livez HTTP/1.1\r\n")
        assert talk(b"GET /livez HTTP/1.1\r\n\r\n")  # so that `early` is accepted, too
        write(process, "")
        assert process.stdout is not None
        assert process.stdout.read() == b""  # it has closed its end
        early.sendall(b"\r\n")
        assert early.makefile("rb").read() == "".join(OK).encode()

    assert process.wait(TIMEOUT_SECONDS) == 0


def test_the_program_ends_when_its_parent_has_gone(program: Program) -> None:
    process, _, _ = program
    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(TIMEOUT_SECONDS) == 0
