"""The server: load, serve, reload on SIGHUP, drain on SIGTERM."""

import asyncio
import logging
import math
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from service.app import create_app
from service.errors import SettingsError
from service.http.protocol import LimitedProtocol
from service.lifespan import NO_INDEX, State, load
from service.listeners import address_of
from service.loading.responder import Responder
from service.process import report_exhausted_files, trim_memory_regularly
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import current_name
from service.settings.settings import Settings

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn that drains: unready at once, stops listening after `drain_seconds`."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        """Create the server; `serve` starts it."""
        super().__init__(config)
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, and log it."""
        await super().startup(sockets)
        for listener in sockets or ():
            logger.info("ready on http://%s", address_of(listener))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; stop at once at a second signal."""
        delay_seconds = self._state.settings.drain_seconds
        is_first = self._state.phase != "draining"
        self._state.enter("draining")
        # uvicorn's method would raise the signal again at the end; this process exits with 0.
        if is_first and delay_seconds and sig == signal.SIGTERM:
            asyncio.get_running_loop().call_later(delay_seconds, self._stop)
        elif self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True


def serve(
    settings: Settings,
    listeners: list[socket.socket],
    responder: Responder,
    encoder: Encoder | None = None,
) -> None:
    """Load, while the responder answers, and serve until a signal ends the process.

    An encoder that the caller has loaded by the same settings is not loaded again.

    Raises:
        ServiceError: a setting is invalid; no index is named.
        RetrievalError: there is no index, or the encoder or the index cannot be used.
    """
    if settings.index is None:
        raise SettingsError(NO_INDEX)
    if isinstance(settings.index, Path):
        current_name(settings.index)  # before what loads the encoder is imported
    warn_if_open(settings)
    # While the service loads, it opens what CURRENT names anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    app = create_app(settings)
    state = app.state.service
    assert isinstance(state, State)
    state.announce = responder.begin
    load(state, encoder)  # outside of an event loop, which would catch signals until a call returns
    responder.stop()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, state, listeners))


async def _serve(app: FastAPI, state: State, listeners: list[socket.socket]) -> None:
    async with app.router.lifespan_context(app):
        assert state.reloader is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, state.reloader.start)
        upkeep = [
            asyncio.create_task(each)
            for each in (trim_memory_regularly(), report_exhausted_files())
        ]
        await Server(make_config(app, state.settings), state).serve(listeners)
        for task in upkeep:
            task.cancel()


def make_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration for the settings."""
    return uvicorn.Config(
        app,
        log_level=settings.log_level,
        access_log=False,  # RequestObserver logs by route, with the request id
        http=LimitedProtocol,
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        log_config=None,
    )


def warn_if_open(settings: Settings) -> None:
    """Log a warning if anyone on the network may send requests."""
    if not settings.is_local and not settings.has_keys:
        logger.warning(
            "anyone who reaches %s may search: set CLEAR_KEYS_FILE or CLEAR_API_KEY, or listen on "
            "127.0.0.1 (CLEAR_REQUIRE_KEYS=true refuses to start without a key)",
            settings.host,
        )
