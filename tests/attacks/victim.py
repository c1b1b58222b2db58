"""Tools of the attacks: send raw bytes to a socket, and check the health of the server."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from tests.support.processes import TIMEOUT_SECONDS, RunningServer, wait_until

READ_SECONDS = 0.7
MAX_HEAD_BYTES = 8192
MAX_CONNECTIONS = 100
MAX_BODY_BYTES = 100_000
SETTINGS = {
    "CLEAR_READ_SECONDS": str(READ_SECONDS),
    "CLEAR_WRITE_SECONDS": "1",
    "CLEAR_KEEP_ALIVE_SECONDS": "1",
    "CLEAR_MAX_HEAD_BYTES": str(MAX_HEAD_BYTES),
    "CLEAR_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    "CLEAR_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    "CLEAR_LOG_LEVEL": "info",  # the pipe of its log is read only at the end
}
JSON = "Content-Type: application/json\r\n"
QUERY = json.dumps({"query": "tea"}).encode()


@dataclass(frozen=True)
class Conversation:
    """Received bytes, and whether the server closed the connection."""

    received: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Return the statuses of all responses."""
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.received)]

    @property
    def body(self) -> bytes:
        """Return the bytes after the last head."""
        return self.received.rpartition(b"\r\n\r\n")[2]


class Victim:
    """A running server under attack."""

    def __init__(self, server: RunningServer) -> None:
        """Attack a server process."""
        self.server = server
        self.port = server.port

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Open a connection with a receive buffer of a given size."""
        client = socket.socket()
        client.settimeout(TIMEOUT_SECONDS)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(("127.0.0.1", self.port))
        return client

    def talk(
        self,
        *chunks: bytes,
        gap_seconds: float = 0.0,
        until: Callable[[bytes], bool] = lambda received: False,
        shut: bool = False,
    ) -> Conversation:
        """Send chunks and read until the server closes, or enough was received."""
        with closing(self.connect()) as client:
            try:
                for chunk in chunks:
                    client.sendall(chunk)
                    time.sleep(gap_seconds)
                if shut:
                    client.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server stopped reading; its response may be available
            received = b""
            while not until(received):
                try:
                    piece = client.recv(65_536)
                except ConnectionResetError:
                    return Conversation(received, True)
                if not piece:
                    return Conversation(received, True)
                received += piece
            return Conversation(received, False)

    def ask(self, body: bytes = QUERY, path: str = "/search", **headers: str) -> tuple[int, bytes]:
        """Send a valid request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def value(self, series: str) -> float:
        """Return one value of /metrics; 0 if there is none."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.server.get("/metrics")[1], re.M)
        return float(found[1]) if found else 0.0

    def assert_well(self) -> None:
        """Check that the server answers, has no stuck request, and has not failed."""
        assert self.ask()[0] == 200
        wait_until(lambda: self.value("clear_requests_in_flight") == 1)  # the request for /metrics
        wait_until(lambda: self.value("clear_waiting_tokens") == 0)
        assert self.value('clear_refusals_total{reason="failed"}') == 0
        assert self.server.process.poll() is None


def head(method: str = "POST", path: str = "/search", lines: Iterable[str] = ()) -> bytes:
    """Return a head with Host and Content-Type, and further header lines."""
    text = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{JSON}" + "".join(
        f"{line}\r\n" for line in lines
    )
    return text.encode("latin-1") + b"\r\n"


def request(body: bytes = QUERY, path: str = "/search", lines: Iterable[str] = ()) -> bytes:
    """Return a whole request; the connection closes after it."""
    length = f"Content-Length: {len(body)}"
    return head(path=path, lines=[length, "Connection: close", *lines]) + body
