import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http import lingering_close as module
from service.http.lingering_close import with_lingering_close

START = {"type": "http.response.start", "status": 413, "headers": []}
ANSWER = {"type": "http.response.body", "body": b"too large"}


def part(more_body: bool) -> Message:
    return {"type": "http.request", "body": b"x", "more_body": more_body}


def happened(num_read_by_app: int, incoming: Iterable[Message]) -> list[object]:
    """Respond after reading part of a body; return the reads and sends in order."""
    events: list[object] = []
    messages = iter(incoming)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(num_read_by_app):
            await receive()
        await send(dict(START))
        await send(dict(ANSWER))

    async def receive() -> Message:
        for message in messages:
            events.append("read")
            return message
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        events.append((message.get("body"), message.get("more_body", False)))

    asyncio.run(with_lingering_close(app)({"type": "http"}, receive, send))
    return events


def test_the_response_is_sent_before_the_rest_of_the_body_is_read() -> None:
    assert happened(1, [part(True), part(True), part(False)]) == [
        "read",
        (None, False),
        (b"too large", True),
        *("read", "read"),
        (b"", False),
    ]


def test_nothing_more_is_read_if_the_app_read_the_whole_body() -> None:
    assert happened(2, [part(True), part(False)]) == [
        *("read", "read"),
        (None, False),
        (b"too large", False),
    ]


def test_a_client_that_has_gone_is_not_waited_for() -> None:
    assert happened(0, [{"type": "http.disconnect"}])[-2:] == ["read", (b"", False)]


def test_a_client_that_never_ends_its_body_is_dropped_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)

    assert happened(0, [part(True)])[-2:] == ["read", (b"", False)]
