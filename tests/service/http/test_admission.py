import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.batching.request import Lane
from service.http.admission import MAX_BODY_BYTES, AdmissionControl

LONG_WAIT_SECONDS = 7


def forecast(lane: Lane, timeout_seconds: float) -> int | None:
    return None if timeout_seconds > LONG_WAIT_SECONDS else LONG_WAIT_SECONDS


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
    control = AdmissionControl(
        app, forecast if wait else lambda lane, seconds: None, timeout_ms=5000
    )
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


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "tea", "timeout_ms": 7001}',
        b'{"query": "tea", "timeout_ms": "1"}',
        b'{"timeout_ms": true}',
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
