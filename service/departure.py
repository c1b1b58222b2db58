"""A client that leaves frees what its request holds."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.errors import ClientGoneError

AnswerT = TypeVar("AnswerT")
# Most answers are there by then; only slower requests pay for being watched.
WATCH_AFTER_SECONDS = 0.02


async def unless_gone(request: Request, work: Coroutine[Any, Any, AnswerT]) -> AnswerT:
    """Await a request's work, and cancel it when its client leaves.

    Raises:
        ClientGoneError: the client left.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=WATCH_AFTER_SECONDS)
        if not done and await _leaves_before(request, task):
            raise ClientGoneError("the client closed the connection")
        return await task
    finally:
        task.cancel()


async def _leaves_before(request: Request, task: asyncio.Task[AnswerT]) -> bool:
    departure = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({task, departure}, return_when=asyncio.FIRST_COMPLETED)
        return not task.done()
    finally:
        departure.cancel()


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
