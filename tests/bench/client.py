"""A minimal HTTP/1.1 client for open loops: it sends each request at its arrival time.

Latency counts from the arrival time, so that a slow server cannot improve it by slowing the client
down (no coordinated omission). Connections are kept alive; a new one opens if none is idle.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

import uvloop

from tests.bench.arrivals import BROKEN, TIMED_OUT, Exchange


def request_bytes(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run(port: int, exchanges: Sequence[Exchange], timeout_seconds: float) -> None:
    """Send every request at its arrival time and record the outcomes in the exchanges."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Client(port, timeout_seconds).run(exchanges))


class Client:
    """The connections to one server."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        """Set the port and the timeout; open no connection yet."""
        self._port = port
        self.timeout_seconds = timeout_seconds
        self.idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_open = 0
        self._all_done = asyncio.Event()

    async def run(self, exchanges: Sequence[Exchange]) -> None:
        """Send all requests and wait for the last answer."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._num_open = len(exchanges)
        for exchange in exchanges:
            if (wait := exchange.due - self.now()) > 0:
                await asyncio.sleep(wait)
            exchange.sent = self.now()
            self.send(exchange)
        if exchanges:
            await self._all_done.wait()
        for connection in list(self.idle):
            connection.close()

    def now(self) -> float:
        """Return the seconds since the start."""
        return self._loop.time() - self._start

    def send(self, exchange: Exchange) -> None:
        """Send on the most recently used idle connection, or on a new one."""
        if self.idle:
            self.idle.pop().send(exchange)
            return
        task = self._loop.create_task(self._send_on_new(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def finish(self, exchange: Exchange, status: int) -> None:
        """Record the end of an exchange."""
        exchange.done = self.now()
        exchange.status = status
        self._num_open -= 1
        if not self._num_open:
            self._all_done.set()

    async def _send_on_new(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), "127.0.0.1", self._port
                )
        except OSError:  # includes TimeoutError
            self.finish(exchange, BROKEN)
            return
        connection.send(exchange)


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self, client: Client) -> None:
        """Create a connection of a client."""
        self._client = client
        self._exchange: Exchange | None = None
        self._buffer = bytearray()
        self._size = 0  # of the whole answer; known once its head has arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, exchange: Exchange) -> None:
        """Send a request and start its timeout."""
        self._exchange = exchange
        self._timer = asyncio.get_running_loop().call_later(
            self._client.timeout_seconds, self._time_out
        )
        self._transport.write(exchange.request)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Collect the answer; when it is complete, mark the connection idle."""
        self._buffer += data
        if not self._size:
            self._read_head()
        exchange = self._exchange
        if self._size and exchange and len(self._buffer) >= self._size:
            status = int(self._buffer[9:12])
            self._release()
            self._client.idle.append(self)
            self._client.finish(exchange, status)

    def connection_lost(self, error: Exception | None) -> None:
        """Send again, once, if the server closed the kept connection before it answered."""
        if self in self._client.idle:
            self._client.idle.remove(self)
        if (exchange := self._exchange) is None:
            return
        is_unanswered = not self._buffer and not exchange.is_second_try
        self._release()
        if is_unanswered:
            exchange.is_second_try = True
            self._client.send(exchange)
        else:
            self._client.finish(exchange, BROKEN)

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._exchange is None:
            return
        headers = dict(
            line.split(b":", 1) for line in bytes(self._buffer[:end]).lower().split(b"\r\n")[1:]
        )
        self._size = end + 4 + int(headers.get(b"content-length", b"0"))
        if wait := headers.get(b"retry-after"):
            self._exchange.retry_after = float(wait)

    def _release(self) -> None:
        self._timer.cancel()
        self._exchange = None
        self._buffer.clear()
        self._size = 0

    def _time_out(self) -> None:
        if exchange := self._exchange:
            self._release()
            self._client.finish(exchange, TIMED_OUT)
        self._transport.abort()
