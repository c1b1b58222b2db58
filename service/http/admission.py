"""ASGI middleware that refuses early, for a fraction of the cost, what could not be in time.

Under overload most requests are refused. To route, validate and tokenize each of them first would
take the cores from those that are answered.
"""

import json
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching.request import Lane
from service.errors import OverloadedError
from service.problems import ProblemResponse

LANES: dict[str, Lane] = {"/search": "query", "/encode": "bulk"}
# A longer body takes the long way.
MAX_BODY_BYTES = 65_536
# Lane and seconds until the deadline in; seconds after which to come back out, if it is too late.
Forecast = Callable[[Lane, float], int | None]


class Gate:
    """Asks the batcher's forecast before anything else is done for a request."""

    def __init__(self, app: ASGIApp, forecast: Forecast, timeout_ms: int) -> None:
        """Wrap an app.

        Args:
            app: for what is let through, and for every other path.
            forecast: is asked first without a deadline, which is quick and nearly always enough.
            timeout_ms: of a request that names none.
        """
        self._app = app
        self._forecast = forecast
        self._timeout_ms = timeout_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass a request on."""
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
    """Read a body's deadline; None where the body is odd, which the app answers."""
    body = message.get("body", b"")
    if message.get("more_body") or len(body) > MAX_BODY_BYTES:
        return None
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    timeout_ms = fields.get("timeout_ms", default)
    return timeout_ms if type(timeout_ms) is int else None


def _replay(first: Message, receive: Receive) -> Receive:
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
