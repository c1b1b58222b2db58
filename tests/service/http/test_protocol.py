import asyncio
import json
import socket
import struct
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvloop

from service.app import create_app
from service.errors import (
    CONNECTIONS_REFUSED,
    HeadTooLargeError,
    MalformedError,
    SlowRequestError,
    TooManyConnectionsError,
)
from service.http.disconnect import TCP_INFO, has_reset
from service.listeners import bind
from service.problems import TABLE
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


REFUSED = {
    b"GARBAGE\r\n\r\n": MalformedError,
    b"GET / HTTP/1.1\r\nA: %b\r\nHost: x\r\n\r\n" % (b"a" * 2000): HeadTooLargeError,
    b"GET / HTTP/1.1\r\nHost: x\r\nA: %b" % (b"a" * 2000): HeadTooLargeError,  # no end comes
    b"GET / HTTP/1.1\r\nHost: x\r\nA: %b" % (b"a" * 900): SlowRequestError,
    b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    b"X-Request-Id: order-17\r\n\r\n{": SlowRequestError,
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{": SlowRequestError,
}


def test_refusals_of_connections_are_problems_of_the_request_with_a_counter_of_their_own(
    service_settings: Settings,
) -> None:
    limits = {"read_seconds": 0.1, "max_head_bytes": 1024}

    def talk(port: int, sent: bytes) -> bytes:
        with connected(port) as client:
            client.sendall(sent)
            return client.makefile("rb").read()

    async def scenario() -> tuple[list[bytes], str]:
        async with served(service_settings.model_copy(update=limits)) as port:
            answers = [asyncio.to_thread(talk, port, sent) for sent in REFUSED]
            return await asyncio.gather(*answers), await asyncio.to_thread(get, port, "/metrics")

    answers, metrics = asyncio.run(scenario())

    for answer, kind in zip(answers, REFUSED.values(), strict=True):
        head, _, body = answer.partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert problem["title"] == kind.title
        assert f"x-request-id: {problem['request_id']}".encode() in head
    [*_, slow, openai] = [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers]
    assert (slow["request_id"], "error" in slow) == ("order-17", False)
    assert openai["error"]["message"] == openai["detail"]
    for kind, count in Counter(REFUSED.values()).items():
        assert CONNECTIONS_REFUSED in kind.metrics
        assert f'{CONNECTIONS_REFUSED}{{reason="{kind.reason}"}} {count}.0' in metrics
    assert {kind for kind in TABLE if CONNECTIONS_REFUSED in kind.metrics} == {
        *REFUSED.values(),
        TooManyConnectionsError,
    }


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
