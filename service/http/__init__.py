"""The HTTP transport: ASGI middleware, the protocol of a connection, limits of size and time."""
