"""ASGI middleware that refuses bodies that are too large or compressed."""

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ContentEncodingError, ContentTooLargeError
from service.problems import DETAILS, ProblemResponse

PLAIN_ENCODINGS = (b"", b"identity")


class BodyLimit:
    """Refuses a body above the limit, whether its length is declared or not, with a 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap an app."""
        self._app = app
        self._max_bytes = max_bytes
        self._limited = RequestBodyLimitMiddleware(app, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = []
        for name, value in scope["headers"]:
            if name == b"content-length":
                lengths.append(value)
            elif name == b"content-encoding" and value.strip().lower() not in PLAIN_ENCODINGS:
                error = ContentEncodingError("send the body as it is, without Content-Encoding")
                await ProblemResponse(error, "body")(scope, receive, send)
                return
        if len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= self._max_bytes:
            await self._app(scope, receive, send)  # uvicorn reads no more than this length
        else:
            await self._count_bytes(scope, receive, send)

    async def _count_bytes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on through starlette's limit; replace its plain 413 by a problem."""
        is_refused = False

        async def send_problem(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_refused = True
                error = ContentTooLargeError(DETAILS[ContentTooLargeError])
                await ProblemResponse(error, "body")(scope, receive, send)
            if not is_refused:
                await send(message)

        await self._limited(scope, receive, send_problem)
