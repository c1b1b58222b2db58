"""A service on a real port, in a thread of the test process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from service.app import create_app
from service.listeners import bind
from service.settings.settings import Settings


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve until the block ends; yield the address without a trailing slash."""
    ready = threading.Event()

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    with bind("127.0.0.1", 0) as listener:
        server = Announcing(uvicorn.Config(create_app(settings), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert ready.wait(60)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
