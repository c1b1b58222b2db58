"""Instances come and go under load behind what a Kubernetes Service is, and no request fails."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.support.processes import RunningServer, running, wait_until
from tests.support.service_proxy import ServiceProxy, running_proxy

pytestmark = pytest.mark.slow
NUM_CLIENTS = 6
PAUSE_SECONDS = 0.01  # the clients need not take all of the machine's time
DRAIN = {"CLEAR_DRAIN_SECONDS": "2", "CLEAR_SHUTDOWN_SECONDS": "20"}
BODY = json.dumps({"query": "Where is Lima?", "top_k": 3})


class Client(threading.Thread):
    """Asks one question after the other; keeps its connection as long as the server does."""

    def __init__(self, proxy: ServiceProxy) -> None:
        super().__init__(daemon=True)
        self._proxy = proxy
        self.is_to_stop = False
        self.num_answers = 0
        self.num_connections = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.is_to_stop:
            self.num_connections += 1
            with closing(HTTPConnection("127.0.0.1", self._proxy.port, timeout=60)) as connection:
                try:
                    self._ask_on(connection)
                except (OSError, HTTPException) as error:
                    self.failures.append(repr(error))

    def _ask_on(self, connection: HTTPConnection) -> None:
        headers = {"Content-Type": "application/json"}
        while not self.is_to_stop:
            connection.request("POST", "/search", BODY, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200 or len(json.loads(content)["results"][0]["hits"]) != 3:
                self.failures.append(f"{answer.status} {content!r}")
            self.num_answers += 1
            if answer.getheader("Connection") == "close":
                return
            time.sleep(PAUSE_SECONDS)


def start_clients(proxy: ServiceProxy) -> list[Client]:
    clients = [Client(proxy) for _ in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    answered_more(clients)
    return clients


def stop(clients: list[Client]) -> None:
    for client in clients:
        client.is_to_stop = True
    for client in clients:
        client.join()


def answered_more(clients: list[Client], by: int = 20) -> None:
    """Wait until each client has got more answers."""
    goals = [client.num_answers + by for client in clients]
    wait_until(lambda: all(c.num_answers >= goal for c, goal in zip(clients, goals, strict=True)))


def replace(proxy: ServiceProxy, old: RunningServer, new: RunningServer) -> None:
    """Do what a rolling update does: add a new one, wait for ready, then end the old one."""
    proxy.ports.add(new.port)
    wait_until(lambda: new.port in proxy.ready)
    old.process.send_signal(signal.SIGTERM)
    wait_until(lambda: old.port not in proxy.ready)


class Fleet:
    """Running instances, started as they are needed and kept for the next test."""

    def __init__(self, start: Callable[[], RunningServer]) -> None:
        self.start = start
        self.servers: list[RunningServer] = []

    def running(self, count: int) -> list[RunningServer]:
        self.servers = [each for each in self.servers if each.process.poll() is None]
        while len(self.servers) < count:
            self.servers.append(self.start())
        return self.servers[:count]


@pytest.fixture(scope="module")
def fleet(tiny_checkpoint: Path, tiny_index: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(lambda: stack.enter_context(running(tiny_checkpoint, tiny_index, **DRAIN)))


def test_a_rolling_update_under_load_fails_no_request(fleet: Fleet) -> None:
    with ExitStack() as stack:
        *old, third, fourth = fleet.running(4)
        proxy = stack.enter_context(running_proxy({server.port for server in old}))
        wait_until(lambda: len(proxy.ready) == 2)
        clients = start_clients(proxy)

        for server, new in zip(old, (third, fourth), strict=True):
            replace(proxy, server, new)
            answered_more(clients)
            exit_code, log = server.end()
            assert exit_code == 0, log
            proxy.ports.discard(server.port)
        answered_more(clients)
        stop(clients)

    assert [failure for client in clients for failure in client.failures] == []
    assert len(proxy.connections) == 4, "not every instance was asked"
    assert all(client.num_connections >= 2 for client in clients)


def test_without_a_drain_requests_are_lost(fleet: Fleet) -> None:
    """The test above can fail: an instance that is killed takes its requests along."""
    with ExitStack() as stack:
        servers = fleet.running(2)
        proxy = stack.enter_context(running_proxy({server.port for server in servers}))
        wait_until(lambda: len(proxy.ready) == 2)
        clients = start_clients(proxy)

        servers[0].process.kill()
        wait_until(lambda: servers[0].port not in proxy.ready)
        answered_more(clients)
        stop(clients)

    assert any(client.failures for client in clients)
