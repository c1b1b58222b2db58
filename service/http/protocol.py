"""One client's connection: how much and how slowly it may send and read.

uvicorn answers whoever sends a whole request. Who sends half of one, or does not read the answer,
would keep a connection and its memory for good.
"""

import asyncio
import uuid
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
    HeadTooLargeError,
    MalformedError,
    RequestError,
    SlowRequestError,
    TooManyConnectionsError,
)
from service.http.headers import ALWAYS, NOTHING
from service.http.lingering_close import lingering
from service.problems import MEDIA_TYPE, problem_of
from service.state import State

SLOW_READER = "slow_reader"


class Connection(HttpToolsProtocol):
    """uvicorn's, with limits; what it refuses is a problem like any other."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Read the limits off the app's settings."""
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config.app, FastAPI)
        state = config.app.state.service
        assert isinstance(state, State)
        self._metrics = state.metrics
        self._settings = state.settings
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._is_head_too_large = False
        self._answering: RequestResponseCycle | None = None
        self._has_spoken = False
        self._head_bytes = 0
        self._unparsed_bytes = 0  # since the parser has last told of anything

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request soon; refuse a connection too many."""
        super().connection_made(transport)
        limit = self._settings.max_connections
        if len(self.connections) > limit:
            self._refuse(TooManyConnectionsError(f"{limit} connections are open: try again"))
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks, and what is being answered: uvicorn stops what came last instead."""
        super().connection_lost(exc)
        self._give_up()
        self._stop_reading()
        self._stop_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, but hold no more of it than may be."""
        self._expect()
        self._has_spoken = True
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > self._settings.max_head_bytes and not self.transport.is_closing():
            self._refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._expect()
        self._head_bytes = self._unparsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count it."""
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it; those after a chunked body come here, too."""
        super().on_header(name, value)
        self._count_head(len(name) + len(value))

    def on_body(self, body: bytes) -> None:
        """Note that the parser gets on."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: the request is there."""
        self._stop_reading()
        self._unparsed_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Give the client some time to read what waits for it."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._settings.write_seconds, self._on_slow_reader)

    def resume_writing(self) -> None:
        """Stop the clock: it has read."""
        super().resume_writing()
        self._stop_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it, as a problem."""
        if self._is_head_too_large:
            self._refuse(self._head_too_large())
        else:
            self._refuse(MalformedError("the request is not valid HTTP/1.1"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if not cycle.keep_alive:
            app = lingering(app)  # type: ignore[arg-type, assignment]  # starlette's names for ASGI
        super()._start_asgi_task(cycle, app)

    def _expect(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(self._settings.read_seconds, self._on_slow_request)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _on_slow_request(self) -> None:
        self._reading = None
        cycle = self._answering
        if self.flow.read_paused:  # by us: the client may be quick
            self._expect()
        elif cycle is not None and not (cycle.more_body or cycle.response_complete):
            cycle.keep_alive = False  # half of a next request is there: close after this answer
        elif not self._has_spoken:  # browsers and probes connect and say nothing
            self.transport.close()
        else:
            seconds = self._settings.read_seconds
            self._refuse(SlowRequestError(f"the request was not there after {seconds:g} s"))

    def _on_slow_reader(self) -> None:
        self._writing = None
        self._metrics.connections_refused.labels(SLOW_READER).inc()
        self.transport.abort()

    def _count_head(self, num_bytes: int) -> None:
        self._unparsed_bytes = 0
        self._head_bytes += num_bytes
        if self._head_bytes > self._settings.max_head_bytes:
            self._is_head_too_large = True
            raise self._head_too_large()  # not kept: its traceback would keep the head in memory

    def _head_too_large(self) -> RequestError:
        return HeadTooLargeError(
            f"request line and headers are above {self._settings.max_head_bytes} bytes "
            "(CLEAR_MAX_HEAD_BYTES)"
        )

    def _refuse(self, error: RequestError) -> None:
        """Answer, unless another answer is under way or was given already, and close."""
        self._metrics.connections_refused.labels(error.reason).inc()
        cycle = self._answering
        was_answered = cycle is not None and cycle.more_body and cycle.response_complete
        is_under_way = cycle is not None and cycle.response_started and not cycle.response_complete
        if not (was_answered or is_under_way):
            self.transport.write(_write(error))
        self._give_up()
        self.transport.close()

    def _give_up(self) -> None:
        """Tell the app that the client is gone."""
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()


def _write(error: RequestError) -> bytes:
    """Write a whole answer, for there is no request that it could be of."""
    request_id = uuid.uuid4().hex
    body = to_json(problem_of(error) | {"request_id": request_id})
    headers = (
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *ALWAYS,
        NOTHING,
    )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + body
