"""ASGI middleware that authenticates requests by their API key and enforces the access rules."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.access import Access
from service.auth.keyring import KeyRing
from service.auth.quotas import ACCOUNT, Account
from service.errors import ForbiddenError, NotFoundError, RequestError, UnauthorizedError
from service.problems import DETAILS, ProblemResponse
from service.telemetry.metrics import Metrics

BEARER = b"bearer "
NO_KEY = "send a key in the header Authorization: Bearer <key>"
UNKNOWN_KEY = "the key is not known here: send another one, or add it to the keys of the service"


class KeyCheck:
    """Refuses requests that the access rules forbid, before their bodies are read."""

    def __init__(
        self, app: ASGIApp, access: Access, ring: KeyRing | None, metrics: Metrics
    ) -> None:
        """Wrap an app; without a key ring no key is required."""
        self._app = app
        self._access = access
        self._ring = ring
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except RequestError as error:
                await ProblemResponse(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        server = scope.get("server")
        rule = self._access.rule(scope["path"], server[1] if server else None)
        if rule == "closed":
            raise NotFoundError(DETAILS[NotFoundError])
        if rule == "open" or self._ring is None:
            ACCOUNT.set(None)  # a pipelined request inherits the context of the previous one
            return
        account = self._account(scope, self._ring)
        if rule != "key" and rule not in account.key.scopes:
            raise ForbiddenError(f"the key {account.name} has no scope {rule}")
        requests = self._metrics.key_requests
        try:
            account.count_request()
        except RequestError as error:
            requests.labels(account.name, error.reason).inc()
            raise
        requests.labels(account.name, "passed").inc()
        ACCOUNT.set(account)

    def _account(self, scope: Scope, ring: KeyRing) -> Account:
        ring.refresh()
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) == 1 and values[0][: len(BEARER)].lower() == BEARER:
            account = ring.find(values[0][len(BEARER) :].strip())
            if account is not None:
                return account
            if values[0][len(BEARER) :].strip():
                raise UnauthorizedError(UNKNOWN_KEY)
        raise UnauthorizedError(NO_KEY)
