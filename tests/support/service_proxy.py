"""A Kubernetes Service in one process: new connections go to ready instances.

A connection stays with its instance, as there: one that ends takes its idle connections with
it. Readiness is asked for as a kubelet does, so it is known late.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROBE_SECONDS = 0.2


class ServiceProxy:
    """Forwards bytes between clients and instances; `ports` may change while it runs."""

    def __init__(self, ports: set[int]) -> None:
        """Start without ready instances; each becomes ready by its probe."""
        self.ports = ports
        self.port = 0
        self.ready: list[int] = []
        self.connections: dict[int, int] = {}
        self._turn = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, on_start: threading.Event, until: asyncio.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            probing = asyncio.create_task(self._probe_all())
            on_start.set()
            await until.wait()
            probing.cancel()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.gather(probing, *self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # releases closed transports

    async def _probe_all(self) -> None:
        while True:
            ports = sorted(self.ports)
            answers = await asyncio.gather(*map(is_ready, ports))
            self.ready = [port for port, ready in zip(ports, answers, strict=True) if ready]
            await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._forward(reader, writer)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.ready:
            return
        self._turn += 1
        port = self.ready[self._turn % len(self.ready)]
        self.connections[port] = self.connections.get(port, 0) + 1
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        self._writers.add(upstream_writer)
        try:
            await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))
        finally:
            self._writers.discard(upstream_writer)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes and the end of the stream."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def is_ready(port: int) -> bool:
    """Probe the readiness of an instance."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


@contextmanager
def running_proxy(ports: set[int]) -> Iterator[ServiceProxy]:
    """Run a proxy in its own thread."""
    proxy, started = ServiceProxy(ports), threading.Event()
    loop, until = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(proxy.run(started, until),), daemon=True
    )
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(until.set)
        thread.join()
        loop.close()
