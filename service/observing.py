"""ASGI middleware that names, times and logs every request, refusals included."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gate import LANES
from service.logs import REQUEST_ID, request_id_of
from service.state import State
from service.tracing import trace_id

REASONS = {
    401: "unauthorized",
    413: "body",
    422: "invalid",
    400: "malformed",
    429: "busy",
    499: "gone",
    503: "not_ready",
    504: "deadline",
}
UNMATCHED = "unmatched"
REQUEST_ID_HEADER = b"x-request-id"
CLOSE = (b"connection", b"close")
PROBES = {"/livez", "/readyz", "/metrics"}

logger = logging.getLogger("service.access")


class RequestObserver:
    """Counts, times and logs requests by route template, never by path: labels stay few."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """Wrap an app."""
        self._app = app
        self._state = state
        self._level = logging.getLevelNamesMapping().get(state.settings.access_log_level.upper())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.monotonic()
        request_id = request_id_of(dict(scope["headers"]).get(REQUEST_ID_HEADER))
        REQUEST_ID.set(request_id)

        async def observe_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode())]
                if self._state.phase == "draining":  # or the client's next request would be lost
                    message["headers"].append(CLOSE)
            await send(message)

        metrics = self._state.metrics
        metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observe_status)
        finally:
            metrics.in_flight.dec()
            seconds = time.monotonic() - started
            route, method = _route(scope), _method(scope)
            trace = trace_id()
            metrics.request_seconds.labels(route, method, str(status)).observe(
                seconds, {"trace_id": trace} if trace else None
            )
            if reason := REASONS.get(status):
                metrics.refusals.labels(reason).inc()
            if self._level is not None:
                self._log(route, method, status, seconds, trace)

    def _log(self, route: str, method: str, status: int, seconds: float, trace: str | None) -> None:
        assert self._level is not None
        level = max(self._level, logging.WARNING) if status >= 500 else self._level
        if route in PROBES and status < 500:
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        fields = {"route": route, "method": method, "status": status, "seconds": round(seconds, 6)}
        if trace:
            fields["trace_id"] = trace
        logger.log(
            level, "%s %s %d %.1f ms", method, route, status, seconds * 1000,
            extra={"fields": fields},
        )  # fmt: skip


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None and scope["path"] in LANES:  # refused before it was routed
        path = scope["path"]
    return str(path or UNMATCHED)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
