"""The program that answers at the service's ports while the service loads.

Run by `responder` as: python -I -S program.py DESCRIPTOR...

The arguments are inherited listening sockets. On stdin comes one line of JSON whenever the answers
change: for each socket an object of [head, body] by path, in which `*` stands for any end; `/ de`
is the answer at `/` to a client that prefers German of the languages that are there. The head gets
the length and the id of the request, which also replaces `{request_id}` in the body. An empty line
means: accept no more connections, and end when those that are open are answered. The end of stdin
means that the service has ended: end at once. The end of stdout says that nothing more is accepted.

It imports a few modules of the standard library and nothing else: it starts at once and is small.
"""

import json
import os
import re
import selectors
import socket
import sys
import time
from functools import partial

REQUEST_SECONDS = 5.0
LINGER_SECONDS = 2.0  # for the rest of a request, as in `http.lingering_close`
MAX_CONNECTIONS = 256
MAX_HEAD_BYTES = 65_536
STDIN, STDOUT = 0, 1
HEAD_END = re.compile(rb"\r?\n\r?\n")
REQUEST_ID = re.compile(rb"\nx-request-id:[ \t]*(.*?)[ \t]*\r?(?=\n|$)", re.IGNORECASE)
ACCEPT_LANGUAGE = re.compile(rb"\naccept-language:(.*?)\r?(?=\n|$)", re.IGNORECASE)
WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.\d*)?)\s*")
PLAIN_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")  # as in `telemetry.logs`
Answers = dict[str, tuple[str, str]]


class Connection:
    """One request and its answer."""

    def __init__(self, client: socket.socket, listener: int) -> None:
        """Keep a connection that was accepted.

        Args:
            client: the connection.
            listener: number of the listening socket.
        """
        self.client = client
        self.listener = listener
        self.received = b""
        self.unsent = b""
        self.is_answered = False
        self.deadline = time.monotonic() + REQUEST_SECONDS


class Program:
    """A loop over the sockets and stdin."""

    def __init__(self, listeners: list[socket.socket]) -> None:
        """Start with listening sockets; nothing is answered yet."""
        self._listeners = listeners
        self._answers: list[Answers] = []
        self._connections: list[Connection] = []  # the oldest first
        self._line = b""
        self._is_accepting = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(STDIN, selectors.EVENT_READ, self._on_input)

    def run(self) -> None:
        """Answer until the service ends, or is ready and every connection is answered."""
        while self._listeners or self._connections:
            for key, _ in self._selector.select(1.0 if self._connections else None):
                key.data()
            now = time.monotonic()
            for each in [each for each in self._connections if each.deadline < now]:
                self._close(each)

    def _on_input(self) -> None:
        received = os.read(STDIN, 1 << 20)
        if not received:
            raise SystemExit
        *lines, self._line = (self._line + received).split(b"\n")
        for line in lines:
            if not line:
                self._stop_accepting()
                return
            self._answers = json.loads(line)
            if not self._is_accepting:
                self._is_accepting = True
                for number, listener in enumerate(self._listeners):
                    listener.setblocking(False)
                    accept = partial(self._accept, listener, number)
                    self._selector.register(listener, selectors.EVENT_READ, accept)

    def _stop_accepting(self) -> None:
        for listener in self._listeners:
            self._selector.unregister(listener)
            listener.close()
        self._listeners = []
        os.close(STDOUT)

    def _accept(self, listener: socket.socket, number: int) -> None:
        if listener not in self._listeners:  # closed a moment ago
            return
        try:
            client, _ = listener.accept()
        except BlockingIOError:  # the client has gone
            return
        except OSError:  # too many open files
            if self._connections:
                self._close(self._connections[0])
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            self._close(self._connections[0])
        client.setblocking(False)
        connection = Connection(client, number)
        self._connections.append(connection)
        go_on = partial(self._go_on, connection)
        self._selector.register(client, selectors.EVENT_READ, go_on)

    def _go_on(self, connection: Connection) -> None:
        """Send what can be sent, or receive what has come."""
        if connection not in self._connections:  # closed a moment ago
            return
        try:
            if connection.unsent:
                self._send(connection)
                return
            received = connection.client.recv(MAX_HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the client has gone
            received = b""
        if not received:
            self._close(connection)
        elif not connection.is_answered:
            connection.received += received
            head = connection.received.lstrip()
            end = HEAD_END.search(head)
            if end or len(head) > MAX_HEAD_BYTES:  # a longer head is answered by what came
                connection.is_answered = True
                head = head[: end.start()] if end else head
                connection.unsent = self._answer_to(head, connection.listener)
                self._wait_for(connection, selectors.EVENT_WRITE)

    def _send(self, connection: Connection) -> None:
        """Send, and read the rest of the request after that: else the answer would be lost."""
        sent = connection.client.send(connection.unsent)
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            connection.client.shutdown(socket.SHUT_WR)
            connection.deadline = time.monotonic() + LINGER_SECONDS
            self._wait_for(connection, selectors.EVENT_READ)

    def _wait_for(self, connection: Connection, event: int) -> None:
        self._selector.modify(connection.client, event, partial(self._go_on, connection))

    def _answer_to(self, request: bytes, listener: int) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.split(None, 1)[0] if rest.strip() else b""
        path = target.partition(b"?")[0].decode("latin-1")
        answers = self._answers[listener]
        is_read = method in (b"GET", b"HEAD")
        found = _in_language(answers, path, request) if is_read else None
        head, body = found or _other(answers, path)
        request_id = _request_id_of(request)
        content = body.replace("{request_id}", request_id).encode()
        added = f"content-length: {len(content)}\r\nx-request-id: {request_id}\r\n\r\n"
        return (head + added).encode() + (b"" if method == b"HEAD" else content)

    def _close(self, connection: Connection) -> None:
        self._selector.unregister(connection.client)
        self._connections.remove(connection)
        connection.client.close()


def _in_language(answers: Answers, path: str, head: bytes) -> tuple[str, str] | None:
    """Return the answer to a path in the language that the client prefers, if there are several."""
    ranges: list[tuple[float, str]] = []
    for each in b",".join(ACCEPT_LANGUAGE.findall(head)).decode("latin-1").lower().split(","):
        tag, _, parameter = each.partition(";")
        weight = WEIGHT.fullmatch(parameter)
        ranges.append((float(weight[1]) if weight else 1.0, tag.strip().partition("-")[0]))
    for share, language in sorted(ranges, key=lambda each: -each[0]):
        if share > 0 and f"{path} {language}" in answers:
            return answers[f"{path} {language}"]
    return answers.get(path)


def _other(answers: Answers, path: str) -> tuple[str, str]:
    """Return the answer to the beginning of a path, the longest that is listed."""
    found = [key for key in answers if key.endswith("*") and path.startswith(key[:-1])]
    return answers[max(found, key=len)]


def _request_id_of(head: bytes) -> str:
    """Return the client's request id if it is well-formed, else a new one."""
    given = REQUEST_ID.findall(head)[-1:]
    is_plain = given and PLAIN_REQUEST_ID.fullmatch(given[0])
    return given[0].decode() if is_plain else os.urandom(16).hex()


if __name__ == "__main__":
    Program([socket.socket(fileno=int(each)) for each in sys.argv[1:]]).run()
