"""The program in a process of its own, driven as the service drives it."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from service.listeners import bind
from service.loading.program import PLAIN_REQUEST_ID
from service.loading.responder import PROGRAM
from service.telemetry import logs
from tests.support.processes import TIMEOUT_SECONDS

OK = ("HTTP/1.1 200 OK\r\n", "live")
OTHER = ("HTTP/1.1 503 Service Unavailable\r\n", '{"request_id": "{request_id}"}')
V1 = ("HTTP/1.1 503 Service Unavailable\r\n", "v1")
ID = "x-request-id: order-17"
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
            write(process, json.dumps([{"/livez": OK, "*": OTHER, "/v1/*": V1}]))

            def talk(request: bytes) -> bytes:
                with connected(port) as client:
                    client.sendall(request)
                    return client.makefile("rb").read()

            yield process, talk, port
            process.kill()


def connected(port: int) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS))


def expected(answer: tuple[str, str], request_id: str = "order-17") -> bytes:
    head, body = answer[0], answer[1].replace("{request_id}", request_id)
    added = f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n\r\n"
    return (head + added + body).encode()


def write(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("GET /livez HTTP/1.1", OK),
        ("GET /livez?a=/b HTTP/1.0", OK),
        ("\r\nGET /livez HTTP/1.1", OK),
        ("POST /livez HTTP/1.1", OTHER),
        ("GET /readyz HTTP/1.1", OTHER),
        ("GET /v1 HTTP/1.1", OTHER),
        ("GET /v1/models HTTP/1.1", V1),
        ("POST /v1/embeddings HTTP/1.1", V1),
        ("GET", OTHER),
        ("\x16\x03\x01\x02", OTHER),
    ],
)
def test_a_request_is_answered_by_method_and_path(
    program: Program, request_line: str, answer: tuple[str, str]
) -> None:
    assert program[1](f"{request_line}\r\n{ID}\r\n\r\n".encode()) == expected(answer)


@pytest.mark.parametrize(("path", "answer"), [("/livez", OK), ("/readyz", OTHER)])
def test_head_is_answered_with_the_length_and_without_the_body(
    program: Program, path: str, answer: tuple[str, str]
) -> None:
    found = program[1](f"HEAD {path} HTTP/1.1\r\n{ID}\r\n\r\n".encode())

    assert found == expected(answer).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


LANGUAGES = [
    ("", "en"),
    ("Accept-Language: de-AT,en;q=0.5", "de"),
    ("accept-language:en ; q=0.4, SW; q = .3 , de;q=0.9", "de"),
    ("Accept-Language: ja, de;q=0, *", "en"),
    ("Accept-Language: en, de", "en"),
    ("Accept-Language: de;q=x", "de"),
    ("Accept-Language: /, de", "de"),
    ("A: accept-language: de", "en"),
]


def test_a_page_is_answered_in_the_language_that_the_client_prefers(program: Program) -> None:
    pages = {f"/{key}": ("HTTP/1.1 200 OK\r\n", key.strip() or "en") for key in ("", " de", " en")}
    write(program[0], json.dumps([{"*": OTHER, **pages}]))
    for header, language in LANGUAGES:
        found = program[1](f"GET /?q=tea HTTP/1.1\r\n{ID}\r\n{header}\r\n\r\n".encode())
        assert found.endswith(f"\r\n\r\n{language}".encode()), header


REQUEST_IDS: list[tuple[list[str], str | None]] = [
    (["Host: x", "X-REQUEST-ID:\torder-17 ", "Accept: */*"], "order-17"),
    (["x-request-id: a", "x-request-id: b"], "b"),
    (["x-request-id: two words"], None),
    (["x-request-id: " + "a" * 129], None),
    (["x-request-id: a", "x-request-id: <script>"], None),
    (["x-request-id:"], None),
    (["A: x-request-id: a"], None),
    (["Host: x", "", "x-request-id: a"], None),
]


def test_a_request_id_comes_back_or_is_made_as_when_the_service_is_ready(
    program: Program,
) -> None:
    for headers, request_id in REQUEST_IDS:
        for line_end in ("\r\n", "\n"):
            request = line_end.join(["GET /readyz HTTP/1.1", *headers, "", ""]).encode()
            answer = program[1](request)
            [given] = re.findall(rb"\r\nx-request-id: (.*)\r\n", answer)
            assert answer == expected(OTHER, given.decode())
            assert given.decode() == request_id or (
                request_id is None and re.fullmatch(rb"[0-9a-f]{32}", given)
            ), headers


def test_request_ids_are_well_formed_as_in_the_service() -> None:
    assert PLAIN_REQUEST_ID.pattern == logs.PLAIN_REQUEST_ID.pattern


def test_a_client_that_sends_a_large_body_first_gets_its_answer(program: Program) -> None:
    head = f"POST /encode HTTP/1.1\r\n{ID}\r\nContent-Length: 8000000\r\n\r\n".encode()

    assert program[1](head + bytes(8_000_000)) == expected(OTHER)


def test_a_head_without_an_end_is_answered(program: Program) -> None:
    found = program[1](f"GET /livez HTTP/1.1\r\n{ID}\r\nA: ".encode() + b"a" * 70_000)

    assert found == expected(OK)


def test_a_large_answer_is_sent_whole(program: Program) -> None:
    process, talk, _ = program
    body = "a" * 8_000_000
    write(process, json.dumps([{"*": ["", body]}]))
    received = b""
    while len(received) < 1000:  # the first request may come before the line
        received = talk(f"GET / HTTP/1.1\r\n{ID}\r\n\r\n".encode())

    assert received == expected(("", body))


def test_after_an_empty_line_only_open_connections_are_answered(program: Program) -> None:
    process, talk, port = program
    with connected(port) as early:
        early.sendall(f"GET /livez HTTP/1.1\r\n{ID}\r\n".encode())
        assert talk(b"GET /livez HTTP/1.1\r\n\r\n")  # so that `early` is accepted, too
        write(process, "")
        assert process.stdout is not None
        assert process.stdout.read() == b""  # it has closed its end
        early.sendall(b"\r\n")
        assert early.makefile("rb").read() == expected(OK)

    assert process.wait(TIMEOUT_SECONDS) == 0


def test_the_program_ends_when_its_parent_has_gone(program: Program) -> None:
    process, _, _ = program
    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(TIMEOUT_SECONDS) == 0
