"""The HTTP protocol of one connection, with limits of size and time.

uvicorn has no limit for a client that sends only part of a request or does not read its response:
such a client would hold a connection and its memory forever.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from service.errors import (
    ClientGoneError,
    HeadTooLargeError,
    MalformedError,
    RequestError,
    SlowRequestError,
    TooManyConnectionsError,
)
from service.http.disconnect import has_reset
from service.http.headers import CLOSE, LOAD_NOTHING, REQUEST_ID_HEADER, SECURITY_HEADERS
from service.http.lingering_close import with_lingering_close
from service.http.parser import RequestParser
from service.lifespan import State
from service.problem import MEDIA_TYPE, problem_of
from service.telemetry.logs import request_id_of

SLOW_READER = "slow_reader"


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; a refusal is answered as a problem."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Read the limits from the app's settings."""
        super().__init__(config, server_state, app_state, _loop)
        self.parser = RequestParser(self)  # type: ignore[assignment]
        assert isinstance(config.app, FastAPI)
        state = config.app.state.service
        assert isinstance(state, State)
        self._metrics = state.metrics
        self._settings = state.settings
        self._read_timeout: asyncio.TimerHandle | None = None
        self._write_timeout: asyncio.TimerHandle | None = None
        self._is_head_too_large = False
        self._answering: RequestResponseCycle | None = None
        self._has_received = False
        self._head_bytes = 0
        self._unparsed_bytes = 0  # received, and not reported by the parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the read timeout; refuse a connection above the limit."""
        super().connection_made(transport)
        if len(self.connections) > (limit := self._settings.max_connections):
            self._refuse(TooManyConnectionsError(f"{limit} connections are open: try again"))
        else:
            self._start_read_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timeouts and the request in flight; uvicorn would stop the newest instead."""
        super().connection_lost(exc)
        self._disconnect()
        self._stop_read_timeout()
        self._stop_write_timeout()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; refuse a head above the limit."""
        self._start_read_timeout()
        self._has_received = True
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > self._settings.max_head_bytes and not self.transport.is_closing():
            self._refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        """Start to count the bytes of a head."""
        super().on_message_begin()
        self._start_read_timeout()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the bytes of the request line."""
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the bytes of a header, also of a trailer after a chunked body."""
        super().on_header(name, value)
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Start to answer the request, unless its head will be parsed again."""
        self._unparsed_bytes = 0
        if self.parser.should_upgrade():
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise MalformedError("RFC 9112, section 3.2")  # becomes send_400_response
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the parser made progress."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the read timeout: the request is complete, unless its head will be parsed again."""
        if self.parser.should_upgrade():
            return
        self._stop_read_timeout()
        self._unparsed_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the write timeout: the client does not read its response."""
        super().pause_writing()
        if self._write_timeout is None:
            self._write_timeout = self.loop.call_later(
                self._settings.write_seconds, self._on_slow_reader
            )

    def resume_writing(self) -> None:
        """Stop the write timeout: the client reads."""
        super().resume_writing()
        self._stop_write_timeout()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP, or a head above the limit, as a problem."""
        if self._is_head_too_large:
            self._refuse(self._head_too_large())
        else:
            self._refuse(MalformedError("the request is not valid HTTP/1.1"))

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: offers of an upgrade are ignored, and CONNECT is answered."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if not cycle.keep_alive:
            app = with_lingering_close(app)  # type: ignore[arg-type, assignment]  # other ASGI types
        super()._start_asgi_task(cycle, self._unless_gone(cycle, app))

    def _unless_gone(self, cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
        """Wrap an app so that it is not called for a client that has gone by then."""

        async def answer(*request: Any) -> None:
            if cycle.disconnected or has_reset(self.transport):
                cycle.disconnected = True
                self._metrics.refusals.labels(ClientGoneError.reason).inc()
            else:
                await app(*request)

        return answer

    def _start_read_timeout(self) -> None:
        if self._read_timeout is None:
            self._read_timeout = self.loop.call_later(
                self._settings.read_seconds, self._on_slow_request
            )

    def _stop_read_timeout(self) -> None:
        if self._read_timeout is not None:
            self._read_timeout.cancel()
            self._read_timeout = None

    def _stop_write_timeout(self) -> None:
        if self._write_timeout is not None:
            self._write_timeout.cancel()
            self._write_timeout = None

    def _on_slow_request(self) -> None:
        self._read_timeout = None
        cycle = self._answering
        if self.flow.read_paused:  # uvicorn paused reading: the client is not at fault
            self._start_read_timeout()
        elif cycle is not None and not (cycle.more_body or cycle.response_complete):
            cycle.keep_alive = False  # part of the next request came: close after this response
        elif not self._has_received:  # browsers and probes connect and send nothing
            self.transport.close()
        else:
            seconds = self._settings.read_seconds
            self._refuse(SlowRequestError(f"the request was not complete after {seconds:g} s"))

    def _on_slow_reader(self) -> None:
        self._write_timeout = None
        self._metrics.connections_refused.labels(SLOW_READER).inc()
        self.transport.abort()

    def _count_head(self, num_bytes: int) -> None:
        self._unparsed_bytes = max(0, self._unparsed_bytes - num_bytes - len(b": \r\n"))
        self._head_bytes += num_bytes
        if self._head_bytes > self._settings.max_head_bytes:
            self._is_head_too_large = True
            raise self._head_too_large()  # a stored error's traceback would keep the head in memory

    def _head_too_large(self) -> RequestError:
        return HeadTooLargeError(
            f"request line and headers are above {self._settings.max_head_bytes} bytes "
            "(CLEAR_MAX_HEAD_BYTES): send fewer or shorter headers"
        )

    def _refuse(self, error: RequestError) -> None:
        """Send a problem, unless a response has started or was sent, and close the connection."""
        self._metrics.connections_refused.labels(error.reason).inc()
        cycle = self._answering
        was_answered = cycle is not None and cycle.more_body and cycle.response_complete
        has_started = cycle is not None and cycle.response_started and not cycle.response_complete
        if not (was_answered or has_started):
            self.transport.write(_serialize(error, self.scope or {}))
        self._disconnect()
        self.transport.close()

    def _disconnect(self) -> None:
        """Signal to the app that the client is gone."""
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()


def _serialize(error: RequestError, scope: Any) -> bytes:
    """Return a whole HTTP response; of the request there may be a part, or nothing."""
    request_id = request_id_of(dict(scope.get("headers", ())).get(REQUEST_ID_HEADER))
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    body = to_json(problem_of(error, path=path) | {"request_id": request_id})
    headers = (
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (REQUEST_ID_HEADER, request_id.encode()),
        CLOSE,
        *SECURITY_HEADERS,
        LOAD_NOTHING,
    )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + body
