"""ASGI middleware that times every request, refusals included."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gate import LANES
from service.metrics import Metrics

REASONS = {
    413: "body",
    422: "invalid",
    400: "malformed",
    429: "busy",
    499: "gone",
    503: "not_ready",
    504: "deadline",
}
UNMATCHED = "unmatched"


class RequestObserver:
    """Counts and times requests by route template, never by path: labels stay few."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap an app."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.monotonic()

        async def observe_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observe_status)
        finally:
            self._metrics.in_flight.dec()
            labels = (_route(scope), _method(scope), str(status))
            self._metrics.request_seconds.labels(*labels).observe(time.monotonic() - started)
            if reason := REASONS.get(status):
                self._metrics.refusals.labels(reason).inc()


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None and scope["path"] in LANES:  # refused before it was routed
        path = scope["path"]
    return str(path or UNMATCHED)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
