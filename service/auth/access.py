"""Who may ask for what: closed paths, open paths, and paths that ask for a key with a scope."""

from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.keyring import KeyRing
from service.auth.keys import Scope as KeyScope
from service.auth.quotas import ACCOUNT, Account
from service.errors import ForbiddenError, NotFoundError, RequestError, UnauthorizedError
from service.problems import DETAILS, ProblemResponse
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics

# What a probe, or a browser that has no key yet, must reach; nothing here answers from the index
# or costs a forward pass.
PROBES = {"/livez", "/readyz"}
PAGE = {"/"}
PAGE_FOLDERS = ("/web/",)
DOCS = {"/docs", "/openapi.json"}
DOCS_FOLDERS = ("/static-offline-docs/",)
METRICS = {"/metrics"}
ADMIN_FOLDERS = ("/admin/",)
# A path that is not here asks for a key, whatever its scopes.
SCOPES: dict[str, KeyScope] = {
    "/search": "search",
    "/encode": "encode",
    "/v1/embeddings": "encode",
    "/v1/models": "encode",
}
BEARER = b"bearer "
Rule = Literal["open", "closed", "key", "search", "encode", "admin"]


class Access:
    """What each path asks of whoever asks, as the settings have it."""

    def __init__(self, settings: Settings) -> None:
        """Read the settings."""
        self._metrics = settings.metrics
        self._docs = settings.docs
        self._operations_port = settings.operations_port

    def rule(self, path: str, port: int | None = None) -> Rule:
        """Tell what a path asks for on a port.

        >>> access = Access(Settings())
        >>> access.rule("/readyz"), access.rule("/search"), access.rule("/admin/reload")
        ('open', 'search', 'admin')
        """
        if path in PROBES:
            return "open"
        is_operation = path in METRICS or path.startswith(ADMIN_FOLDERS)
        is_docs = path in DOCS or path.startswith(DOCS_FOLDERS)
        if self._operations_port is not None:
            on_operations_port = port == self._operations_port
            if on_operations_port != (is_operation or is_docs):
                return "closed"
        if path in METRICS:
            return _as_rule(self._metrics, "admin")
        if is_docs:
            return _as_rule(self._docs, "key")
        if path.startswith(ADMIN_FOLDERS):
            return "admin"
        if path in PAGE or path.startswith(PAGE_FOLDERS):
            return "open"
        return SCOPES.get(path, "key")


class KeyCheck:
    """ASGI middleware that refuses requests that may not be made, before their bodies are read."""

    def __init__(
        self, app: ASGIApp, access: Access, ring: KeyRing | None, metrics: Metrics
    ) -> None:
        """Wrap an app; without a ring nobody is asked for a key."""
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
            ACCOUNT.set(None)  # a pipelined request begins with what the one before has left
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
        raise UnauthorizedError("send a key in the header Authorization: Bearer <key>")


def _as_rule(setting: Literal["open", "key", "closed"], scope: Rule) -> Rule:
    return scope if setting == "key" else setting
