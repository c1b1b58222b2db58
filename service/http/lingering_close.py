"""Lingering close: read the rest of a body before a connection is closed.

If a socket is closed while it holds unread bytes, the kernel resets the connection and the client
loses the response. A client that sends all of a large body before it reads would not learn why the
request was refused.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0


def with_lingering_close(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that it reads the rest of the body, for a short time, after its response."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_read = False

        async def read() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_then_read(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_read or not is_last:
                await send(message)
                return
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    while not is_read:
                        await read()
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b""})

        await app(scope, read, send_then_read)

    return answer
