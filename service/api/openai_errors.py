"""ASGI middleware that tells the errors of `/v1` the way OpenAI's clients read them, too."""

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import MEDIA_TYPE

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAIErrors:
    """Adds the member `error` to the problems of `/v1`; they stay problem+json (RFC 9457)."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a problem, held back until its body is there
        body = b""

        async def send_both(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    content = with_error(body)
                    await send(_with_length(start, len(content)))
                    await send({"type": "http.response.body", "body": content})

        await self._app(scope, receive, send_both)


def with_error(body: bytes) -> bytes:
    """Add what OpenAI's clients read to a problem."""
    problem: dict[str, Any] = json.loads(body)
    status = problem["status"]
    other = "server_error" if status >= 500 else "invalid_request_error"
    problem["error"] = {
        "message": problem["detail"],
        "type": TYPES.get(status, other),
        "param": problem.get("field"),
        "code": problem["type"].rpartition(":")[2],
    }
    return json.dumps(problem, separators=(",", ":")).encode()


def _is_problem(message: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in message["headers"]


def _with_length(start: Message, length: int) -> Message:
    kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    return {**start, "headers": [*kept, (b"content-length", str(length).encode())]}
