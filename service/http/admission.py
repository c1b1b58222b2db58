"""ASGI middleware for admission control: refuse requests that cannot meet their deadline.

Under overload most requests are refused. Refusing them before routing, validation and tokenization
leaves the CPU to the requests that are answered.
"""

import json
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching.request import Lane
from service.errors import RequestError
from service.problems import ProblemResponse

LANES: dict[str, Lane] = {"/search": "query", "/encode": "bulk", "/v1/embeddings": "bulk"}
# OpenAI's routes have no field `timeout_ms`.
WITHOUT_TIMEOUT = "/v1/"
# A longer body is not parsed here; the engine decides on it.
MAX_BODY_BYTES = 65_536
# About a day. A longer one is above every setting that makes sense, and the app decides on it.
MAX_TIMEOUT_MS = 100_000_000


class Forecast(Protocol):
    """What the batcher knows of a request before its tokens are counted."""

    def is_idle(self, lane: Lane) -> bool:
        """Return whether a request would wait for nothing; its body need not be parsed then."""

    def refusal_of(self, lane: Lane, timeout_seconds: float) -> RequestError | None:
        """Return why even the smallest request would be late; None if it would not be."""


class AdmissionControl:
    """Refuses a request if even the smallest one would miss its deadline."""

    def __init__(self, app: ASGIApp, forecast: Forecast, timeout_ms: int) -> None:
        """Wrap an app.

        Args:
            app: receives the admitted requests, and those for every other path.
            forecast: of the batcher.
            timeout_ms: deadline of a request that sets none.
        """
        self._app = app
        self._forecast = forecast
        self._timeout_ms = timeout_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request or refuse it."""
        lane = LANES.get(scope["path"]) if scope["type"] == "http" else None
        if lane is None or self._forecast.is_idle(lane):
            await self._app(scope, receive, send)
            return
        first = await receive()
        timeout_ms = _timeout_ms(scope["path"], first, self._timeout_ms)
        error = self._forecast.refusal_of(lane, timeout_ms / 1000) if timeout_ms else None
        if error is None:
            await self._app(scope, _replay(first, receive), send)
        else:
            await ProblemResponse(error)(scope, receive, send)


def _timeout_ms(path: str, message: Message, default: int) -> int | None:
    """Return the `timeout_ms` of a body, or None if the body is invalid or long."""
    body = message.get("body", b"")
    if message.get("more_body") or len(body) > MAX_BODY_BYTES:
        return None
    if path.startswith(WITHOUT_TIMEOUT):
        return default
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    timeout_ms = fields.get("timeout_ms")
    if timeout_ms is None:
        return default
    is_valid = type(timeout_ms) is int and 0 < timeout_ms <= MAX_TIMEOUT_MS
    return timeout_ms if is_valid else None


def _replay(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that yields the first message again."""
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
