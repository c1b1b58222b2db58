"""A client that leaves frees what its request holds."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.errors import ClientGoneError

AnswerT = TypeVar("AnswerT")
# Most answers are there by then; only slower requests pay for being watched.
WATCH_AFTER_SECONDS = 0.2


async def unless_gone(request: Request, work: Coroutine[Any, Any, AnswerT]) -> AnswerT:
    """Await a request's work, and cancel it when its client leaves.

    Raises:
        ClientGoneError: the client left.
    """
    watch = _Watch(request)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.has_seen_departure:
            raise
        raise ClientGoneError("the client closed the connection") from None
    finally:
        watch.end()


class _Watch:
    """Cancels the task that made it when the client of a request leaves."""

    def __init__(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        self.has_seen_departure = False
        self._request = request
        self._watched = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.has_seen_departure = True
        if self._watched is not None:
            self._watched.cancel()
