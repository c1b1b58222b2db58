"""The server process: one port, a clear refusal to start, a graceful end."""

import asyncio
import errno
import logging
import math
import signal
import socket
from contextlib import ExitStack
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from service.app import create_app
from service.errors import ServiceError
from service.http.protocol import Connection
from service.process import trim_regularly
from service.settings.settings import Settings
from service.state import State

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn that turns unready first, answers on for `drain_seconds`, then stops listening."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        """Make the server; `run` starts it."""
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal stops at once."""
        delay_seconds = self._state.settings.drain_seconds
        is_first = self._state.phase != "draining"
        self._state.enter("draining")
        # uvicorn's own would raise the signal again at the end; the end here is a clean one.
        if is_first and delay_seconds and sig == signal.SIGTERM:
            asyncio.get_running_loop().call_later(delay_seconds, self._stop)
        elif self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self._stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer requests, and only then say so."""
        await super().startup(sockets)
        for listener in sockets or []:
            logger.info("ready on http://%s:%d", *listener.getsockname()[:2])

    def _stop(self) -> None:
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises:
        ServiceError: the port is taken, or a setting is wrong.
        RetrievalError: the encoder or the index cannot be used.
    """
    warn_of_openness(settings)
    ports = [settings.port, settings.operations_port]
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(bind(settings.host, port)) for port in ports if port is not None
        ]
        for listener in listeners:
            limit_patience(listener, settings.write_seconds)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_serve(settings, listeners))


async def _serve(settings: Settings, listeners: list[socket.socket]) -> None:
    app = create_app(settings)
    _reload_on_hangup(app.state.service)
    # The lifespan runs here, so that what stops it reaches the command line as it is.
    async with app.router.lifespan_context(app):
        trimming = asyncio.create_task(trim_regularly())
        await Server(make_config(app, settings), app.state.service).serve(sockets=listeners)
        trimming.cancel()


def make_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Tell uvicorn what the settings say."""
    return uvicorn.Config(
        app,
        log_level=settings.log_level,
        access_log=False,  # RequestObserver's is by route, and carries the request's id
        http=Connection,
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        log_config=None,
    )


def warn_of_openness(settings: Settings) -> None:
    """Say so where anybody on a network may ask."""
    if not settings.is_local and not settings.has_keys:
        logger.warning(
            "whoever reaches %s may ask: set CLEAR_KEYS_FILE or CLEAR_API_KEY, or listen on "
            "127.0.0.1 (CLEAR_REQUIRE_KEYS=true refuses to start without a key)",
            settings.host,
        )


def limit_patience(listener: socket.socket, seconds: float) -> None:
    """Have the kernel end connections whose client takes nothing of what was sent to it."""
    if option := getattr(socket, "TCP_USER_TIMEOUT", None):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))


def _reload_on_hangup(state: State) -> None:
    """Take SIGHUP as a request to serve what CURRENT names; while loading, that comes anyway."""

    def on_hangup() -> None:
        if state.reloader:
            state.reloader.start()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


def bind(host: str, port: int) -> socket.socket:
    """Take the port before the slow loading begins.

    Raises:
        ServiceError: it is taken, or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # a port only bound can be taken by another server that starts
    except OSError as error:
        listener.close()
        reason = (
            "another program listens there: stop it or choose another port with --port"
            if error.errno == errno.EADDRINUSE
            else f"{error.strerror or error}: choose another address with --host or --port"
        )
        raise ServiceError(f"cannot listen on {host}:{port}: {reason}") from None
    return listener
