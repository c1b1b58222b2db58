"""What the service can answer but the answer: an error's class decides its status, here alone.

    ServiceError
    ├── SettingsError               refused at start
    └── RequestError                answered as application/problem+json (RFC 9457)
        ├── MalformedError          400
        ├── UnauthorizedError       401, with WWW-Authenticate
        ├── ForbiddenError          403
        ├── NotFoundError           404
        │   └── UnknownModelError   of OpenAI's API
        ├── MethodNotAllowedError   405
        ├── SlowRequestError        408
        ├── ReloadRefusedError      409, the generation before serves on
        ├── ContentTooLargeError    413
        ├── ContentEncodingError    415
        ├── InvalidRequestError     422
        ├── RetryLaterError         429, with Retry-After
        │   ├── OverloadedError     of the service
        │   ├── RateLimitedError    of the key
        │   └── QuotaExceededError  of the key
        ├── HeadTooLargeError       431
        ├── ClientGoneError         499, which nobody reads but the metrics
        ├── BatchFailedError        500
        ├── NotReadyError           503
        │   └── DeviceBrokenError   liveness fails, too
        ├── TooManyConnectionsError 503
        └── DeadlineExceededError   504

The text of a query or a passage is never in a message.
"""

from typing import ClassVar


class ServiceError(Exception):
    """Something that a user or an operator of the service can mend."""


class SettingsError(ServiceError):
    """A setting is unknown, wrong, or contradicts another."""


class RequestError(ServiceError):
    """A request cannot be answered."""

    status: ClassVar[int]
    title: ClassVar[str]
    reason: ClassVar[str]  # in the metrics
    meaning: ClassVar[str]  # in the README and the OpenAPI document

    @property
    def headers(self) -> dict[str, str]:
        """Tell the headers that the answer needs besides."""
        return {}


class MalformedError(RequestError):
    """The request is no HTTP, or its body no JSON object."""

    status = 400
    title = "Malformed request"
    reason = "malformed"
    meaning = "Not HTTP, or the body is not a JSON object in UTF-8"


class UnauthorizedError(RequestError):
    """The request carries no key, or a wrong one."""

    status = 401
    title = "Unauthorized"
    reason = "unauthorized"
    meaning = "The key is missing or wrong, where the service asks for one"

    @property
    def headers(self) -> dict[str, str]:
        """Name the scheme."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(RequestError):
    """The route is closed here, or the key is not for it."""

    status = 403
    title = "Forbidden"
    reason = "forbidden"
    meaning = "The key lacks the scope that the route asks for, or the route is closed"


class NotFoundError(RequestError):
    """There is no such path."""

    status = 404
    title = "Not found"
    reason = "not_found"
    meaning = "There is no such path"


class UnknownModelError(NotFoundError):
    """The encoder that the request names is not served here."""

    title = "Unknown model"
    reason = "model"
    meaning = "There is no such model (`/v1` alone)"


class MethodNotAllowedError(RequestError):
    """The path takes other methods."""

    status = 405
    title = "Method not allowed"
    reason = "method"
    meaning = "The path takes other methods; the header Allow names them"


class SlowRequestError(RequestError):
    """The client took too long to send its request."""

    status = 408
    title = "Request timeout"
    reason = "slow"
    meaning = "The request was not there in time (CLEAR_READ_SECONDS)"


class ReloadRefusedError(RequestError):
    """The generation that CURRENT names cannot be served; the one before serves on."""

    status = 409
    title = "Reload refused"
    reason = "reload"
    meaning = "What CURRENT names cannot be served; the generation before is"


class ContentTooLargeError(RequestError):
    """The body, or what is in it, is larger than is taken."""

    status = 413
    title = "Content too large"
    reason = "body"
    meaning = "The body is above CLEAR_MAX_BODY_BYTES, or its tokens above the key's"


class ContentEncodingError(RequestError):
    """The body is compressed."""

    status = 415
    title = "Unsupported content encoding"
    reason = "encoding"
    meaning = "The body is compressed; only answers are"


class InvalidRequestError(RequestError):
    """A field of the body is wrong."""

    status = 422
    title = "Invalid request"
    reason = "invalid"
    meaning = "A field is wrong; `field` names it"


class RetryLaterError(RequestError):
    """The same request can be answered later."""

    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        """Tell when."""
        super().__init__(f"{message}: try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Tell when, for programs."""
        return {"Retry-After": str(self.retry_after_seconds)}


class OverloadedError(RetryLaterError):
    """More tokens are waiting than the service accepts."""

    title = "Busy"
    reason = "busy"
    meaning = "More waits than the service can answer in time; Retry-After says when to come again"

    def __init__(self, retry_after_seconds: int) -> None:
        """Tell when the queue will have room."""
        super().__init__("the queue is full", retry_after_seconds)


class RateLimitedError(RetryLaterError):
    """The key asks more often than it may."""

    title = "Too many requests"
    reason = "rate"
    meaning = "The key asks more often than it may; Retry-After says when to come again"


class QuotaExceededError(RetryLaterError):
    """The key has as many tokens in the works as it may."""

    title = "Quota exceeded"
    reason = "quota"
    meaning = "The key has too many tokens in the works; Retry-After says when to come again"


class HeadTooLargeError(RequestError):
    """The request line and headers are longer than is taken."""

    status = 431
    title = "Request header fields too large"
    reason = "head"
    meaning = "Request line and headers are above CLEAR_MAX_HEAD_BYTES"


class ClientGoneError(RequestError):
    """The client closed the connection before its answer was there."""

    status = 499
    title = "Client gone"
    reason = "gone"
    meaning = "The client closed the connection; in the metrics alone"


class BatchFailedError(RequestError):
    """The encoder or the index failed on a batch; its log names the cause."""

    status = 500
    title = "Internal error"
    reason = "failed"
    meaning = "The encoder or the index failed; the log names the cause"


class NotReadyError(RequestError):
    """The service is loading or shutting down."""

    status = 503
    title = "Not ready"
    reason = "not_ready"
    meaning = "Loading, shutting down, or not healthy"


class DeviceBrokenError(NotReadyError):
    """The device cannot be used any more; the process must be restarted."""


class TooManyConnectionsError(RequestError):
    """As many connections are open as may be."""

    status = 503
    title = "Too many connections"
    reason = "connections"
    meaning = "CLEAR_MAX_CONNECTIONS are open"


class DeadlineExceededError(RequestError):
    """The request's time was up before its answer was there."""

    status = 504
    title = "Deadline exceeded"
    reason = "deadline"
    meaning = "The deadline passed (`timeout_ms`)"


# What a client may be answered; the README, the OpenAPI document and the metrics are made of it.
TABLE: tuple[type[RequestError], ...] = (
    MalformedError,
    UnauthorizedError,
    ForbiddenError,
    NotFoundError,
    UnknownModelError,
    MethodNotAllowedError,
    SlowRequestError,
    ReloadRefusedError,
    ContentTooLargeError,
    ContentEncodingError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    QuotaExceededError,
    HeadTooLargeError,
    ClientGoneError,
    BatchFailedError,
    NotReadyError,
    TooManyConnectionsError,
    DeadlineExceededError,
)
