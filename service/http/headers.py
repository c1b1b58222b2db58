"""Headers that every answer has, so that a browser does nothing with it that was not meant."""

from starlette.types import Message

CONTENT_SECURITY_POLICY = b"content-security-policy"
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
NOTHING = (CONTENT_SECURITY_POLICY, b"default-src 'none'; frame-ancestors 'none'")
# FastAPI's page has its own script and style within it.
DOCS = (
    CONTENT_SECURITY_POLICY,
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
)


def secure(message: Message) -> None:
    """Add to the message that begins an answer what it has not said itself."""
    headers = message["headers"] = [*message["headers"], *ALWAYS]
    is_html = False
    for name, value in headers:
        if name == CONTENT_SECURITY_POLICY:
            return
        is_html = is_html or (name == b"content-type" and value.startswith(b"text/html"))
    headers.append(DOCS if is_html else NOTHING)
