"""ASGI middleware that identifies, times, counts and logs every request, also refused ones."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth.quotas import ACCOUNT
from service.errors import BatchFailedError, ClientGoneError
from service.http.admission import LANES
from service.http.headers import REQUEST_ID_HEADER, add_headers
from service.lifespan import State
from service.problems import REASON
from service.telemetry.logs import REQUEST_ID, request_id_of
from service.telemetry.tracing import trace_id

UNMATCHED = "unmatched"
# Timing is hidden: it could reveal how near a wrong key is to a right one.
UNTIMED_STATUSES = {401, 403}
PROBES = {"/livez", "/readyz", "/metrics"}

logger = logging.getLogger("service.access")


class RequestObserver:
    """Counts, times and logs requests by route template; labels by path would be unbounded."""

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
        reason: str | None = BatchFailedError.reason
        has_begun = False
        started = time.monotonic()
        request_id = request_id_of(dict(scope["headers"]).get(REQUEST_ID_HEADER))
        REQUEST_ID.set(request_id)

        async def observe_start(message: Message) -> None:
            nonlocal status, reason, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                status, reason = message["status"], message.get(REASON)
                milliseconds = (time.monotonic() - started) * 1000
                add_headers(
                    message,
                    request_id,
                    None if status in UNTIMED_STATUSES else milliseconds,
                    is_last=self._state.phase == "draining",  # else the next request would be lost
                )
            await send(message)

        metrics = self._state.metrics
        metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observe_start)
            if not has_begun:  # starlette sends no file to a client that left
                status, reason = ClientGoneError.status, ClientGoneError.reason
        finally:
            metrics.in_flight.dec()
            seconds = time.monotonic() - started
            route, method = _route(scope), _method(scope)
            trace = trace_id()
            metrics.request_seconds.labels(route, method, str(status)).observe(
                seconds, {"trace_id": trace} if trace else None
            )
            if reason:
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
        fields: dict[str, object] = {"route": route, "method": method, "status": status}
        fields["seconds"] = round(seconds, 6)
        if trace:
            fields["trace_id"] = trace
        if account := ACCOUNT.get():
            fields["key"] = account.name
        logger.log(
            level, "%s %s %d %.1f ms", method, route, status, seconds * 1000,
            extra={"fields": fields},
        )  # fmt: skip


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None and scope["path"] in {*LANES, *PROBES}:  # refused before routing
        path = scope["path"]
    return str(path or UNMATCHED)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
