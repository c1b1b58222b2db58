import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request
from starlette.types import Message

from service.errors import ClientGoneError
from service.http.disconnect import cancel_on_disconnect


def request(receive: Callable[[], Awaitable[Message]]) -> Request:
    return Request({"type": "http"}, receive)


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> Message:
    return {"type": "http.disconnect"}


def test_a_result_is_returned() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(cancel_on_disconnect(request(stays), work())) == 7


def test_a_slow_result_is_returned_to_a_client_that_stays() -> None:
    """The work ends only after the watcher has read a message of the body."""

    async def scenario() -> tuple[int, int]:
        has_waited = asyncio.Event()
        messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            has_waited.set()
            return await stays()

        async def work() -> int:
            async with asyncio.timeout(10):
                await has_waited.wait()
            return 7

        answer = await cancel_on_disconnect(request(receive), work())
        await asyncio.sleep(0)
        return answer, len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == (7, 1)


def test_an_error_is_raised() -> None:
    async def work() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(cancel_on_disconnect(request(stays), work()))


def test_the_work_for_a_client_that_leaves_is_cancelled() -> None:
    was_cancelled = False

    async def work() -> None:
        nonlocal was_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled = True
            raise

    async def scenario() -> None:
        with pytest.raises(ClientGoneError):
            await cancel_on_disconnect(request(leaves), work())
        await asyncio.sleep(0)

    asyncio.run(scenario())

    assert was_cancelled
