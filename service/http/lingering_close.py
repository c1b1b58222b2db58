"""The end of a connection that is closed under a client that is still sending.

A system that closes a socket with unread bytes resets the connection, and the answer is lost with
it: whoever sends all of a large body before reading never learns why it was refused.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0


def lingering(app: ASGIApp) -> ASGIApp:
    """Have an app read on for a moment, once its answer is out, what it has not read of a body."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_read = False

        async def read() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_and_read_on(message: Message) -> None:
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

        await app(scope, read, send_and_read_on)

    return answer
