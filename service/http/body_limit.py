"""ASGI middleware that refuses bodies that are too large or compressed."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ContentEncodingError, ContentTooLargeError
from service.problems import ProblemResponse

PLAIN_ENCODINGS = (b"", b"identity")


class BodyLimit:
    """Refuses a body above the limit, whether its length is declared or not, with a 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap an app."""
        self._app = app
        self._max_bytes = max_bytes

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
        if len(lengths) != 1 or not lengths[0].isdigit():
            await self._app(scope, self._counted(receive), send)
        elif int(lengths[0]) <= self._max_bytes:
            await self._app(scope, receive, send)  # uvicorn reads no more than this length
        else:
            await ProblemResponse(self._too_large(), "body")(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        """Wrap what receives a body so that it raises above the limit."""
        num_bytes = 0

        async def receive_and_count() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large()
            return message

        return receive_and_count

    def _too_large(self) -> ContentTooLargeError:
        error = ContentTooLargeError(
            f"the body is above {self._max_bytes} bytes (CLEAR_MAX_BODY_BYTES): send less at once"
        )
        error.field = "body"
        return error
