"""Who may ask: a key in the header `Authorization: Bearer`, compared in constant time."""

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnauthorizedError
from service.problems import problem

# What a probe, Prometheus, or a browser that has no key yet must reach; nothing here answers from
# the index or costs a forward pass.
OPEN_PATHS = {"/livez", "/readyz", "/metrics", "/", "/docs", "/openapi.json"}
OPEN_FOLDERS = ("/web/", "/static-offline-docs/")
SCHEME = b"bearer "


class KeyCheck:
    """ASGI middleware that refuses requests without the key before their bodies are read."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        """Wrap an app; only the key's digest is kept."""
        self._app = app
        self._digest = digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] != "http" or is_open(scope["path"]) or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError(
            "send the service's key in the header Authorization: Bearer <key>"
        )
        headers = {"WWW-Authenticate": "Bearer"}
        refusal = problem(error.status, error.title, str(error), headers=headers)
        await refusal(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) != 1 or not values[0].lower().startswith(SCHEME):
            return False
        return hmac.compare_digest(digest(values[0][len(SCHEME) :].strip()), self._digest)


def is_open(path: str) -> bool:
    """Tell whether a path may be asked without a key.

    >>> is_open("/readyz"), is_open("/search"), is_open("/no-such-path")
    (True, False, False)
    """
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def digest(key: bytes) -> bytes:
    """Hash a key: digests are of one length, so that their comparison tells nothing of a key's."""
    return hashlib.sha256(key).digest()
