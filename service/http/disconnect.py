"""Do no work for a request whose client has gone."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.errors import ClientGoneError

ResultT = TypeVar("ResultT")
TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux
TCP_CLOSE = b"\x07"  # the state of a connection after a reset, first byte of TCP_INFO


def has_reset(transport: asyncio.Transport) -> bool:
    """Return whether the client reset a connection, also before the event loop has read that."""
    if transport.is_closing():
        return True
    if TCP_INFO is None:
        return False
    connection = transport.get_extra_info("socket")
    return bool(connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1) == TCP_CLOSE)


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
        self.is_disconnected = False
        self._request = request
        self._watched = asyncio.current_task()
        self._task = asyncio.create_task(self._watch())

    def close(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True
        if self._watched is not None:
            self._watched.cancel()
