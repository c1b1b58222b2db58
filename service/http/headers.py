"""Headers that every response carries: security, request id, time, and the connection's end."""

from starlette.types import Message

CONTENT_SECURITY_POLICY = b"content-security-policy"
REQUEST_ID_HEADER = b"x-request-id"
CLOSE = (b"connection", b"close")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
LOAD_NOTHING = (CONTENT_SECURITY_POLICY, b"default-src 'none'; frame-ancestors 'none'")
PAGE_HEADERS = {
    # A browser asks again for each file, so that it never mixes the files of two releases.
    "Cache-Control": "no-cache",
    "Accept-Ranges": "none",
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
}
# FastAPI's page of the API has inline scripts and styles.
LOAD_FOR_DOCS = (
    CONTENT_SECURITY_POLICY,
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
)


def add_headers(
    message: Message, request_id: str, milliseconds: float | None, is_last: bool
) -> None:
    """Add headers to the ASGI message that starts a response.

    Args:
        message: `http.response.start`.
        request_id: of the request.
        milliseconds: time since the request came; None leaves it out.
        is_last: the client must close the connection after this response.
    """
    message["headers"] = [*message["headers"], *SECURITY_HEADERS]
    _add_policy(message["headers"])
    message["headers"].append((REQUEST_ID_HEADER, request_id.encode()))
    if milliseconds is not None:
        message["headers"].append((b"server-timing", b"total;dur=%.3f" % milliseconds))
    if is_last:
        message["headers"].append(CLOSE)


def _add_policy(headers: list[tuple[bytes, bytes]]) -> None:
    """Add a content security policy, unless the response has one."""
    is_html = False
    for name, value in headers:
        if name == CONTENT_SECURITY_POLICY:
            return
        is_html = is_html or (name == b"content-type" and value.startswith(b"text/html"))
    headers.append(LOAD_FOR_DOCS if is_html else LOAD_NOTHING)
