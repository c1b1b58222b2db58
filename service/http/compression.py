"""ASGI middleware that compresses large responses for clients that accept gzip."""

import re

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Compared with level 9, level 1 takes a fifth of the time; its output is a tenth larger.
LEVEL = 1
# Browsers send it, programs do not: a browser's link may be slow, and the time to compress is less.
OF_BROWSERS = b"accept-language"
MIN_BYTES_FOR_BROWSERS = 1024
# Embeddings hardly shrink: base64 instead of numbers saves more than gzip.
NOT_COMPRESSED = {"/encode", "/v1/embeddings"}
NO_WEIGHT = re.compile(rb"q=0(\.0*)?")


class Compression:
    """Passes the responses that may be compressed through starlette's `GZipMiddleware`."""

    def __init__(self, app: ASGIApp, min_bytes: int) -> None:
        """Wrap an app; responses below `min_bytes` are not compressed, but for browsers."""
        self._app = app
        least = min(min_bytes, MIN_BYTES_FOR_BROWSERS)
        self._for_browsers = GZipMiddleware(app, minimum_size=least, compresslevel=LEVEL)
        self._compressed = GZipMiddleware(app, minimum_size=min_bytes, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        app = self._app
        if scope["type"] == "http" and may_compress(scope):
            is_browser = any(name == OF_BROWSERS for name, _ in scope["headers"])
            app = self._for_browsers if is_browser else self._compressed
        await app(scope, receive, send)


def may_compress(scope: Scope) -> bool:
    """Return whether the client accepts gzip and the path's responses shrink.

    >>> headers = [(b"accept-encoding", b"gzip, deflate")]
    >>> may_compress({"path": "/search", "headers": headers})
    True
    >>> may_compress({"path": "/encode", "headers": headers})
    False
    >>> may_compress({"path": "/search", "headers": [(b"accept-encoding", b"gzip;q=0")]})
    False
    """
    accepts_gzip = any(
        name == b"accept-encoding" and _accepts_gzip(value) for name, value in scope["headers"]
    )
    return accepts_gzip and scope["path"] not in NOT_COMPRESSED


def _accepts_gzip(value: bytes) -> bool:
    codings = (each.partition(b";") for each in value.lower().replace(b" ", b"").split(b","))
    return any(name == b"gzip" and not NO_WEIGHT.fullmatch(weight) for name, _, weight in codings)
