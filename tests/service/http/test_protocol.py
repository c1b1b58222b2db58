import asyncio
import json
import socket
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvloop

from service.app import create_app
from service.http.disconnect import TCP_INFO, has_reset
from service.listeners import bind
from service.server import Server, make_config
from service.settings.settings import Settings
from tests.support.processes import TIMEOUT_SECONDS

BODY = json.dumps({"query": "tea"}).encode()
SEARCH = (
    b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
ON_LINUX = pytest.mark.skipif(TCP_INFO is None, reason="the kernel does not report its state")


@asynccontextmanager
async def served(settings: Settings) -> Any:
    """Serve in the running event loop; yield the port."""
    app = create_app(settings)
    with bind("127.0.0.1", 0) as listener:
        async with app.router.lifespan_context(app):
            server = Server(make_config(app, settings), app.state.service)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0)
            yield listener.getsockname()[1]
            server.should_exit = True
            await task


def reset(client: socket.socket) -> None:
    """Close a connection at once, without an orderly end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def get(port: int, path: str) -> str:
    url = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        return str(response.read().decode())


@ON_LINUX
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_requests_of_clients_that_have_gone_cost_no_tokenizing_and_no_search(
    service_settings: Settings, new_loop: Any
) -> None:
    """The clients come and go while the loop stands still, so that it finds all of them gone."""

    async def scenario() -> str:
        async with served(service_settings) as port:
            for _ in range(100):
                client = socket.create_connection(("127.0.0.1", port))
                client.sendall(SEARCH)
                reset(client)
            return await asyncio.to_thread(get, port, "/metrics")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        metrics = runner.run(scenario())

    assert 'clear_refusals_total{reason="gone"} 100.0' in metrics
    assert 'route="/search"' not in metrics
    assert 'stage="tokenize"' not in metrics


class Connection(asyncio.Protocol):
    """Keeps its transport."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        yield client


@ON_LINUX
def test_a_reset_is_known_before_the_loop_reads_it_and_a_half_close_is_none() -> None:
    async def scenario() -> list[bool]:
        loop = asyncio.get_running_loop()
        connection = Connection()
        server = await loop.create_server(lambda: connection, "127.0.0.1", 0)
        found = []
        async with server:
            with connected(server.sockets[0].getsockname()[1]) as client:
                while not hasattr(connection, "transport"):
                    await asyncio.sleep(0)
                found.append(has_reset(connection.transport))
                client.shutdown(socket.SHUT_WR)
                found.append(has_reset(connection.transport))
                reset(client)
                found.append(has_reset(connection.transport))
            connection.transport.close()
            found.append(has_reset(connection.transport))
        return found

    assert asyncio.run(scenario()) == [False, False, True, True]
