import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request
from starlette.types import Message

from service.errors import ClientGoneError
from service.http.disconnect import unless_gone


def request(receive: Callable[[], Awaitable[Message]]) -> Request:
    return Request({"type": "http"}, receive)


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> Message:
    return {"type": "http.disconnect"}


def test_an_answer_is_handed_on() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(unless_gone(request(stays), work())) == 7


def test_a_slow_answer_to_a_patient_client_is_handed_on() -> None:
    async def work() -> int:
        await asyncio.sleep(0.05)
        return 7

    assert asyncio.run(unless_gone(request(stays), work())) == 7


def test_an_error_is_handed_on() -> None:
    async def work() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(unless_gone(request(stays), work()))


def test_the_work_of_a_client_that_leaves_is_cancelled() -> None:
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
            await unless_gone(request(leaves), work())
        await asyncio.sleep(0)

    asyncio.run(scenario())

    assert was_cancelled
