"""Which answers are compressed where a client takes gzip: large ones that shrink."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# The first level takes a fifth of the ninth's time and leaves a tenth more.
LEVEL = 1
# Embeddings are noise: to ask for them in base64 saves more than gzip does.
NOT_COMPRESSED = {"/encode", "/v1/embeddings"}


class Compression:
    """ASGI middleware that hands to starlette's what may be compressed."""

    def __init__(self, app: ASGIApp, min_bytes: int) -> None:
        """Wrap an app."""
        self._app = app
        self._compressed = GZipMiddleware(app, minimum_size=min_bytes, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and may_compress(scope):
            await self._compressed(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def may_compress(scope: Scope) -> bool:
    """Tell whether the client takes gzip and the answer may shrink by it.

    >>> headers = [(b"accept-encoding", b"gzip, deflate")]
    >>> may_compress({"path": "/search", "headers": headers})
    True
    >>> may_compress({"path": "/encode", "headers": headers})
    False
    """
    return scope["path"] not in NOT_COMPRESSED and any(
        name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"]
    )
