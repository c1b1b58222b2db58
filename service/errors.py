"""What the service can answer but the answer: an error's class decides its status, here alone.

    ServiceError
    ├── SettingsError             refused at start
    └── RequestError              answered as application/problem+json (RFC 9457)
        ├── UnauthorizedError     401, with WWW-Authenticate
        ├── ForbiddenError        403
        ├── ReloadRefusedError    409, the generation before serves on
        ├── OverloadedError       429, with Retry-After
        ├── BatchFailedError      500
        ├── NotReadyError         503
        │   └── DeviceBrokenError liveness fails, too
        ├── DeadlineExceededError 504
        └── ClientGoneError       499, which nobody reads but the metrics

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


class UnauthorizedError(RequestError):
    """The request carries no key, or a wrong one."""

    status = 401
    title = "Unauthorized"


class ForbiddenError(RequestError):
    """The route is closed here."""

    status = 403
    title = "Forbidden"


class ReloadRefusedError(RequestError):
    """The generation that CURRENT names cannot be served; the one before serves on."""

    status = 409
    title = "Reload refused"


class OverloadedError(RequestError):
    """More tokens are waiting than the service accepts."""

    status = 429
    title = "Busy"

    def __init__(self, retry_after_seconds: int) -> None:
        """Tell when the queue will have room."""
        super().__init__(f"the queue is full: try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class BatchFailedError(RequestError):
    """The encoder or the index failed on a batch; its log names the cause."""

    status = 500
    title = "Internal error"


class NotReadyError(RequestError):
    """The service is loading or shutting down."""

    status = 503
    title = "Not ready"


class DeviceBrokenError(NotReadyError):
    """The device cannot be used any more; the process must be restarted."""


class DeadlineExceededError(RequestError):
    """The request's time was up before its answer was there."""

    status = 504
    title = "Deadline exceeded"


class ClientGoneError(RequestError):
    """The client closed the connection before its answer was there."""

    status = 499
    title = "Client gone"
