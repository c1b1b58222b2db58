import errno
import gc
import json
import signal
import socket
from pathlib import Path

import pytest

from service.errors import ServiceError
from service.listeners import bind
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from tests.support.processes import TIMEOUT_SECONDS, half_sent_search, running, wait_until


def test_sigterm_makes_the_server_unready_and_answers_requests_in_flight(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    """The drain lasts an hour; the second SIGTERM ends it, so that the test needs no clock."""
    with (
        running(tiny_checkpoint, tiny_index, CLEAR_DRAIN_SECONDS="3600") as server,
        half_sent_search(server.port, json.dumps({"query": "tea"}).encode()) as finish,
    ):
        wait_until(lambda: "clear_requests_in_flight 2.0" in server.get("/metrics")[1])
        assert server.get("/readyz")[0] == 200

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz")[0] == 503)
        assert server.get("/livez")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.is_listening())
        answer = finish()

        assert answer.status == 200
        assert len(json.loads(answer.read())["results"][0]["hits"]) == 10
        assert server.end()[0] == 0


@pytest.mark.slow
def test_sighup_serves_what_current_names_and_ctrl_c_ends_it_cleanly_without_a_query_in_its_log(
    tiny_checkpoint: Path, index_copy: Path, tiny_encoder: Encoder
) -> None:
    variables = {"CLEAR_WATCH_SECONDS": "0", "CLEAR_LOG_LEVEL": "debug"}
    with running(tiny_checkpoint, index_copy, **variables) as server:
        new = build_index([("f", Passage("a", "tea"))], index_copy, tiny_encoder).directory.name
        assert new not in server.get("/info")[1]
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: new in server.get("/info")[1])

        bodies: list[object] = [{"query": "secret"}, {"query": "secret\x00"}, ["secret"]]
        for body in bodies:
            with half_sent_search(server.port, json.dumps(body).encode()) as finish:
                assert finish().status in (200, 400, 422)
        server.process.send_signal(signal.SIGINT)
        exit_code, log = server.end()

    assert exit_code == 0
    assert "secret" not in log
    assert log.count("POST /search") == len(bodies)


def test_port_0_finds_a_free_port() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_taken_by_a_server_that_is_loading_is_refused() -> None:
    """Two servers started together, both bound the port, and one failed later with a traceback."""
    with bind("127.0.0.1", 0) as loading:
        port = loading.getsockname()[1]

        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1:{port}: another"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"cannot listen on 192\.0\.2\.1:0: .*--host"):
        bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["a" * 300, "no such host", "::1::"])
def test_a_name_that_is_no_address_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(ServiceError, match="^cannot listen on .*--host"):
        bind(host, 0)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_where_ipv6_is_switched_off_an_ipv6_address_is_refused_in_one_line(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended in an UnboundLocalError."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)

    with pytest.raises(ServiceError) as refusal:
        bind(host, 8000)

    assert str(refusal.value) == (
        f"cannot listen on [{host}]:8000: this machine has no IPv6: "
        "choose an IPv4 address with --host"
    )


def test_a_refused_address_leaves_no_open_socket(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ServiceError):
        bind("192.0.2.1", 0)
    gc.collect()

    assert not recwarn.list


@pytest.mark.slow
def test_the_logged_url_answers_at_once_and_sigterm_right_after_it_ends_the_server_cleanly(
    tiny_checkpoint: Path, tiny_index: Path
) -> None:
    """`ready on` was logged before the port listened and before signals were handled."""
    host = "[::1]" if has_ipv6() else "127.0.0.1"
    with running(tiny_checkpoint, tiny_index, CLEAR_HOST=host) as server:
        url = f"http://{host}:{server.port}"
        socket.create_connection((host.strip("[]"), server.port), TIMEOUT_SECONDS).close()
        server.process.send_signal(signal.SIGTERM)
        exit_code, log = server.end()

    assert f"ready on {url}" in server.log[-1]
    assert exit_code == 0
    assert "Traceback" not in log


def has_ipv6() -> bool:
    try:
        bind("::1", 0).close()
    except ServiceError:
        return False
    return True
