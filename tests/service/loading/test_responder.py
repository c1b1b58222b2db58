import subprocess
import urllib.request

import pytest

from service.listeners import listening
from service.loading.responder import answering
from service.settings.settings import Settings
from tests.support.processes import TIMEOUT_SECONDS


def test_the_ports_are_answered_until_the_end_of_the_block() -> None:
    settings = Settings(port=0)
    with listening(settings) as listeners, answering(settings, listeners):
        port = listeners[0].getsockname()[1]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_SECONDS
        ) as response:
            assert b"\nclear_ready 0.0\n" in response.read()

    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=TIMEOUT_SECONDS)


def test_a_service_that_can_start_no_process_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    settings = Settings(port=0)
    with listening(settings) as listeners, answering(settings, listeners) as responder:
        responder.begin("loading the encoder")
        responder.stop()

    assert "nothing is answered until the service is ready: Resource" in caplog.text


def test_a_responder_that_was_killed_is_no_error() -> None:
    settings = Settings(port=0)
    with listening(settings) as listeners, answering(settings, listeners) as responder:
        assert responder._process is not None
        responder._process.kill()
        responder._process.wait()
        responder.begin("loading the encoder")
        responder.stop()
