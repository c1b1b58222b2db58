"""Errors that the service returns, with their HTTP statuses.

    ServiceError
    ├── SettingsError           refused at start
    └── RequestError            answered as application/problem+json (RFC 9457)
        ├── RetryLaterError     with Retry-After
        └── ...                 the others of `service.problems.TABLE`

A message never contains the text of a query or a passage.
"""

from typing import ClassVar

REFUSALS = "clear_refusals_total"
CONNECTIONS_REFUSED = "clear_connections_refused_total"


class ServiceError(Exception):
    """An error that a user or an operator of the service can fix."""


class SettingsError(ServiceError):
    """A setting is unknown, wrong, or contradicts another."""


class RequestError(ServiceError):
    """A request that cannot be answered."""

    status: ClassVar[int]
    title: ClassVar[str]
    reason: ClassVar[str]  # label of the metrics
    meaning: ClassVar[str]  # for the manual and the OpenAPI document
    metrics: ClassVar[tuple[str, ...]] = (REFUSALS,)  # that count it
    field: str | None = None  # of the body, if one is at fault

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that the response needs in addition."""
        return {}


class MalformedError(RequestError):
    """The request is not HTTP, or its body is not a JSON object."""

    status, title, reason = 400, "Malformed request", "malformed"
    meaning = "Not HTTP, or the body is not a JSON object in UTF-8"
    metrics = (REFUSALS, CONNECTIONS_REFUSED)  # the second: not HTTP


class UnauthorizedError(RequestError):
    """The request has no key, or a wrong one."""

    status, title, reason = 401, "Unauthorized", "unauthorized"
    meaning = "The key is missing or wrong, and the service requires one"

    @property
    def headers(self) -> dict[str, str]:
        """Return the authentication scheme."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(RequestError):
    """The route is closed here, or the key lacks its scope."""

    status, title, reason = 403, "Forbidden", "forbidden"
    meaning = "The key lacks the scope that the route requires, or the route is closed"


class NotFoundError(RequestError):
    """The path does not exist."""

    status, title, reason = 404, "Not found", "not_found"
    meaning = "The path does not exist"


class UnknownPassageError(NotFoundError):
    """The live index has no passage of the id that the request names."""

    title, reason = "Unknown passage", "passage"
    meaning = "The live index has no passage of this id"


class UnknownModelError(NotFoundError):
    """The encoder that the request names is not served here."""

    title, reason = "Unknown model", "model"
    meaning = "The model does not exist (`/v1` only)"


class MethodNotAllowedError(RequestError):
    """The path does not accept the method."""

    status, title, reason = 405, "Method not allowed", "method"
    meaning = "The path does not accept the method; the header Allow lists those that it accepts"


class SlowRequestError(RequestError):
    """The client took too long to send its request."""

    status, title, reason = 408, "Request timeout", "slow"
    meaning = "The request was not complete in time (CLEAR_READ_SECONDS)"
    metrics = (CONNECTIONS_REFUSED,)


class ReloadRefusedError(RequestError):
    """The generation that CURRENT names cannot be served; the previous one stays live."""

    status, title, reason = 409, "Reload refused", "reload"
    meaning = "The generation that CURRENT names cannot be served; the previous one stays live"


class ContentTooLargeError(RequestError):
    """The body is too large, or has more tokens than the key may use."""

    status, title, reason = 413, "Content too large", "body"
    meaning = "The body is above CLEAR_MAX_BODY_BYTES, or its tokens are above the key's limit"


class ContentEncodingError(RequestError):
    """The body is compressed."""

    status, title, reason = 415, "Unsupported content encoding", "encoding"
    meaning = "The body is compressed; only responses may be"


class InvalidRequestError(RequestError):
    """A field of the body is invalid."""

    status, title, reason = 422, "Invalid request", "invalid"
    meaning = "A field is invalid; `field` names it"


class RetryLaterError(RequestError):
    """The same request may succeed later."""

    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        """Add the time to wait to the message."""
        super().__init__(f"{message}: try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Return the time to wait, for programs."""
        return {"Retry-After": str(self.retry_after_seconds)}


class OverloadedError(RetryLaterError):
    """More tokens wait than the service can process in time."""

    title, reason = "Busy", "busy"
    meaning = "More tokens wait than can be processed in time; Retry-After says when to try again"

    def __init__(self, retry_after_seconds: int) -> None:
        """Say when the queue will have room."""
        super().__init__("the service is busy with other requests", retry_after_seconds)


class RateLimitedError(RetryLaterError):
    """The key exceeds its rate limit."""

    title, reason = "Too many requests", "rate"
    meaning = "The key exceeds its rate limit; Retry-After says when to try again"


class QuotaExceededError(RetryLaterError):
    """The key has as many tokens in flight as it may have."""

    title, reason = "Quota exceeded", "quota"
    meaning = "The key has too many tokens in flight; Retry-After says when to try again"


class HeadTooLargeError(RequestError):
    """The request line and headers are too long."""

    status, title, reason = 431, "Request header fields too large", "head"
    meaning = "Request line and headers are above CLEAR_MAX_HEAD_BYTES"
    metrics = (CONNECTIONS_REFUSED,)


class ClientGoneError(RequestError):
    """The client closed the connection before the response was ready."""

    status, title, reason = 499, "Client gone", "gone"
    meaning = "The client closed the connection; only in the metrics"


class BatchFailedError(RequestError):
    """The encoder or the index failed on a batch; the log names the cause."""

    status, title, reason = 500, "Internal error", "failed"
    meaning = "The encoder or the index failed; the log names the cause"


class InvalidEmbeddingError(BatchFailedError):
    """The encoder gives no finite vector of length 1 for a text of the request."""

    title, reason = "Invalid embedding", "embedding"
    meaning = "The encoder gives NaN, infinity or zero for a text; `field` names it"

    def __init__(self, position: int, field: str = "") -> None:
        """Keep the text's position in its request, counted from 0, and the field, if known."""
        super().__init__(
            f"{field or f'text {position}'}: the encoder gives NaN, infinity or zero for this "
            "text: change it, or report it to the operator; the log names the encoder"
        )
        self.position = position
        self.field = field


class NotReadyError(RequestError):
    """The service is loading or shutting down."""

    status, title, reason = 503, "Not ready", "not_ready"
    meaning = "Loading (Retry-After says when to try again), shutting down, or not healthy"


class DeviceBrokenError(NotReadyError):
    """The device no longer works; the process must be restarted."""


class TooManyConnectionsError(RequestError):
    """The limit of open connections is reached."""

    status, title, reason = 503, "Too many connections", "connections"
    meaning = "The limit of open connections is reached (CLEAR_MAX_CONNECTIONS)"
    metrics = (CONNECTIONS_REFUSED,)


class DeadlineExceededError(RequestError):
    """The deadline of the request passed before the response was ready."""

    status, title, reason = 504, "Deadline exceeded", "deadline"
    meaning = "The deadline passed, or is too short even for an idle device (`timeout_ms`)"


class ShortDeadlineError(DeadlineExceededError):
    """The request takes longer than its deadline allows, even on an idle device."""

    def __init__(self, message: str, least_seconds: float) -> None:
        """Keep the seconds at the greatest speed that was observed."""
        super().__init__(message)
        self.least_seconds = least_seconds
