"""The server: bind ports, answer while loading, serve, reload on SIGHUP, drain on SIGTERM."""

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
from service.errors import ServiceError, SettingsError
from service.http.protocol import LimitedProtocol
from service.lifespan import NO_INDEX, State
from service.process import report_exhausted_files, trim_memory_regularly
from service.retrieval import interruption
from service.retrieval.generation.generation import current_name
from service.settings.settings import Settings

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn that drains: unready at once, stops listening after `drain_seconds`."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        """Create the server; `serve` starts it."""
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; stop at once at a second signal. While loading, end the process."""
        if self._state.phase == "loading":
            interruption.end(sig)
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


def serve(settings: Settings) -> None:
    """Serve until a signal ends the process.

    Raises:
        ServiceError: the port is taken, or a setting is invalid; no index is named.
        RetrievalError: there is no index, or the encoder or the index cannot be used.
    """
    if settings.index is None:
        raise SettingsError(NO_INDEX)
    current_name(settings.index)  # before a port is bound and the encoder is loaded
    warn_if_open(settings)
    ports = [settings.port, settings.operations_port]
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(bind(settings.host, port)) for port in ports if port is not None
        ]
        for listener in listeners:
            set_write_timeout(listener, settings.write_seconds)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_serve(settings, listeners))


async def _serve(settings: Settings, listeners: list[socket.socket]) -> None:
    app = create_app(settings)
    state = app.state.service
    _reload_on_hangup(state)
    for listener in listeners:
        logger.info("listening on http://%s", authority(*listener.getsockname()[:2]))
    server = Server(make_config(app, settings), state)
    serving = asyncio.create_task(server.serve(listeners))
    try:
        # The lifespan loads. It runs here, so that its errors reach the command line unchanged.
        async with app.router.lifespan_context(app):
            for listener in listeners:
                logger.info("ready on http://%s", authority(*listener.getsockname()[:2]))
            upkeep = [
                asyncio.create_task(each)
                for each in (trim_memory_regularly(), report_exhausted_files())
            ]
            await serving
            for task in upkeep:
                task.cancel()
    finally:
        server.should_exit = server.force_exit = True  # if loading failed
        await serving


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


def set_write_timeout(listener: socket.socket, seconds: float) -> None:
    """Let the kernel close connections whose client does not acknowledge sent data in time."""
    if option := getattr(socket, "TCP_USER_TIMEOUT", None):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))


def _reload_on_hangup(state: State) -> None:
    """Reload at SIGHUP; while the service loads, it opens what CURRENT names anyway."""

    def on_hangup() -> None:
        if state.reloader:
            state.reloader.start()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


def authority(host: str, port: int) -> str:
    """Return address and port as in a URL.

    >>> authority("::1", 8000), authority("127.0.0.1", 8000)
    ('[::1]:8000', '127.0.0.1:8000')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen before the slow loading, so that a taken port is reported at once.

    Raises:
        ServiceError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen()  # a port that is only bound can still be taken by another server
        except (OSError, ValueError) as error:  # ValueError: no host name could be so
            reason = _bind_fault(error)
            raise ServiceError(f"cannot listen on {authority(host, port)}: {reason}") from None
        stack.pop_all()
    return listener


def _bind_fault(error: OSError | ValueError) -> str:
    """Return why an address cannot be listened on, and how to fix it."""
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return "another program listens there: stop it or choose another port with --port"
    if code == errno.EAFNOSUPPORT:
        return "this machine has no IPv6: choose an IPv4 address with --host"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{reason}: choose another address with --host or --port"
