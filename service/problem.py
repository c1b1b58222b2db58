"""The body that reports an error: application/problem+json (RFC 9457)."""

from service.errors import RequestError
from service.telemetry.logs import REQUEST_ID

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:clear-search:problem:"
# OpenAI's clients read the member `error`.
OPENAI_PATHS = "/v1/"
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def problem_of(error: RequestError, field: str | None = None, path: str = "") -> dict[str, object]:
    """Return the members of a problem (RFC 9457), and OpenAI's `error` on the paths of its API."""
    kind = type(error)
    return {
        "type": problem_type(kind),
        "title": kind.title,
        "status": kind.status,
        "detail": str(error),
        **({"field": field} if field else {}),
        **({"request_id": found} if (found := REQUEST_ID.get()) else {}),
        **({"error": _openai_error(error, field)} if path.startswith(OPENAI_PATHS) else {}),
    }


def _openai_error(error: RequestError, field: str | None) -> dict[str, object]:
    other = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "message": str(error),
        "type": OPENAI_TYPES.get(error.status, other),
        "param": field,
        "code": problem_type(type(error)).removeprefix(TYPE_PREFIX),
    }


def problem_type(kind: type[RequestError]) -> str:
    """Return the URN that identifies a class of errors.

    >>> problem_type(MalformedError)
    'urn:clear-search:problem:malformed-request'
    """
    return TYPE_PREFIX + kind.title.lower().replace(" ", "-")
