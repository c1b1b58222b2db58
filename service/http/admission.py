"""ASGI middleware for admission control: refuse requests that cannot meet their deadline.

Under overload most requests are refused. Refusing them before routing, validation and tokenization
leaves the CPU to the requests that are answered.
"""

import json
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching.request import Lane
from service.errors import OverloadedError
from service.problems import ProblemResponse

LANES: dict[str, Lane] = {"/search": "query", "/encode": "bulk"}
# A longer body is not parsed here; the engine decides on it.
MAX_BODY_BYTES = 65_536
# Returns the seconds after which to try again, or None if a request can meet its deadline.
# Arguments: the lane, and the seconds left until the deadline.
Forecast = Callable[[Lane, float], int | None]


class AdmissionControl:
    """Refuses a request with 429 if the batcher's forecast exceeds its deadline."""

    def __init__(self, app: ASGIApp, forecast: Forecast, timeout_ms: int) -> None:
        """Wrap an app.

        Args:
            app: receives the admitted requests, and those for every other path.
            forecast: of the batcher. It is asked with a timeout of 0 first: if nothing waits, the
                body need not be parsed.
            timeout_ms: deadline of a request that sets none.
        """
        self._app = app
        self._forecast = forecast
        self._timeout_ms = timeout_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request or refuse it."""
        lane = LANES.get(scope["path"]) if scope["type"] == "http" else None
        if lane is None or self._forecast(lane, 0.0) is None:
            await self._app(scope, receive, send)
            return
        first = await receive()
        timeout_ms = _timeout_ms(first, self._timeout_ms)
        retry_after_seconds = self._forecast(lane, timeout_ms / 1000) if timeout_ms else None
        if retry_after_seconds is None:
            await self._app(scope, _replay(first, receive), send)
        else:
            await ProblemResponse(OverloadedError(retry_after_seconds))(scope, receive, send)


def _timeout_ms(message: Message, default: int) -> int | None:
    """Return the `timeout_ms` of a body, or None if the body is invalid or long."""
    body = message.get("body", b"")
    if message.get("more_body") or len(body) > MAX_BODY_BYTES:
        return None
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    timeout_ms = fields.get("timeout_ms")
    if timeout_ms is None:
        return default
    return timeout_ms if type(timeout_ms) is int else None


def _replay(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that yields the first message again."""
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
