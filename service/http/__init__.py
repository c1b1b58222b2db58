"""The HTTP transport: ASGI middleware, the protocol on the socket, limits of bytes and seconds."""
