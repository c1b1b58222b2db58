import asyncio
import json
from dataclasses import dataclass

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.batching.request import Lane
from service.errors import OverloadedError, RequestError
from service.http.admission import MAX_BODY_BYTES, AdmissionControl

LONG_WAIT_SECONDS = 7


@dataclass
class Wait:
    """A queue, in which every request waits for 7 s, or none at all."""

    has_queue: bool

    def is_idle(self, lane: Lane) -> bool:
        return not self.has_queue

    def refusal_of(self, lane: Lane, timeout_seconds: float) -> RequestError | None:
        is_late = self.has_queue and timeout_seconds <= LONG_WAIT_SECONDS
        return OverloadedError(LONG_WAIT_SECONDS) if is_late else None


class App:
    """Records the bodies that reach it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body += message.get("body", b"")
            has_more = message.get("more_body", False)
        self.bodies.append(body)


def ask(*messages: bytes, path: str = "/search", wait: bool = True) -> tuple[App, list[Message]]:
    """Send a request in several messages through admission control to an app."""
    app, sent = App(), list[Message]()
    control = AdmissionControl(app, Wait(has_queue=wait), timeout_ms=5000)
    left = [
        {"type": "http.request", "body": body, "more_body": number < len(messages)}
        for number, body in enumerate(messages, start=1)
    ]

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": []}
    asyncio.run(control(scope, receive, send))
    return app, sent


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "tea"}',
        b'{"query": "tea", "timeout_ms": 7000}',
        b'{"query": "tea", "timeout_ms": null}',
    ],
)
def test_a_request_that_cannot_meet_its_deadline_is_refused_with_retry_after(body: bytes) -> None:
    app, sent = ask(body)

    assert app.bodies == []
    assert sent[0]["status"] == 429
    assert dict(sent[0]["headers"])[b"retry-after"] == b"7"
    assert json.loads(sent[1]["body"])["status"] == 429


@pytest.mark.parametrize("path", ["/search", "/encode", "/v1/embeddings"])
def test_every_route_that_needs_the_device_is_refused_early(path: str) -> None:
    app, sent = ask(b'{"input": "tea"}', path=path)

    assert app.bodies == []
    assert sent[0]["status"] == 429


def test_openai_s_route_has_the_default_deadline_whatever_its_body_says() -> None:
    app, sent = ask(b'{"input": "tea", "timeout_ms": 60000}', path="/v1/embeddings")

    assert app.bodies == []
    assert sent[0]["status"] == 429


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "tea", "timeout_ms": 7001}',
        b'{"query": "tea", "timeout_ms": "1"}',
        b'{"timeout_ms": true}',
        b'{"timeout_ms": 0}',
        b'{"timeout_ms": 1' + b"0" * 400 + b"}",
        b"[1]",
        b"{",
        b"\xff",
        b"",
        b"[" * 60_000,
        b'{"query": "' + b"a" * MAX_BODY_BYTES + b'"}',
    ],
)
def test_a_request_with_time_or_an_invalid_body_reaches_the_app_unchanged(body: bytes) -> None:
    app, sent = ask(body)

    assert (app.bodies, sent) == ([body], [])


def test_a_body_in_pieces_reaches_the_app_whole() -> None:
    app, _ = ask(b'{"query":', b' "tea"}')

    assert app.bodies == [b'{"query": "tea"}']


@pytest.mark.parametrize(("path", "wait"), [("/livez", True), ("/search", False)])
def test_other_paths_and_requests_without_a_queue_are_admitted(path: str, wait: bool) -> None:
    app, _ = ask(b"{}", path=path, wait=wait)

    assert app.bodies == [b"{}"]
