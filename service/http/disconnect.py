"""Cancel the work for a request whose client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.errors import ClientGoneError

ResultT = TypeVar("ResultT")
# Most requests are answered by then, so that only slow ones pay for a watching task.
WATCH_AFTER_SECONDS = 0.2


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await the work for a request, and cancel it if the client disconnects.

    Raises:
        ClientGoneError: the client disconnected.
    """
    watcher = _DisconnectWatcher(request)
    try:
        return await work
    except asyncio.CancelledError:
        if not watcher.is_disconnected:
            raise
        raise ClientGoneError("the client closed the connection") from None
    finally:
        watcher.close()


class _DisconnectWatcher:
    """Cancels the task that created it when the client of a request disconnects."""

    def __init__(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        self.is_disconnected = False
        self._request = request
        self._watched = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def close(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True
        if self._watched is not None:
            self._watched.cancel()
