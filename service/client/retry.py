"""When the client sends a request again, and after what pause."""

import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from service.client.messages import (
    ProblemError,
    UnreachableError,
    retry_after_seconds,
    timeout_seconds_of,
)

RETRIED_STATUSES = {429, 502, 503}
# A read timeout is not retried: the service may still be working on the request.
RETRIED_ERRORS = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
)
FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 8.0


@dataclass(slots=True)
class RetryPolicy:
    """Retries one request after Retry-After, or with exponential back-off and jitter."""

    max_retries: int
    max_wait_seconds: float
    num_retries: int = 0
    began: float = field(default_factory=time.monotonic)

    def after_refusal(self, response: httpx2.Response) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            ProblemError: a retry would not help, or a limit is reached.
        """
        asked = retry_after_seconds(response)
        if response.status_code not in RETRIED_STATUSES or not self._allows(asked or 0.0):
            raise ProblemError(response)
        return self._pause(asked)

    def after_error(self, error: httpx2.TransportError) -> float:
        """Return the seconds to wait after a request without an answer.

        Raises:
            UnreachableError: a retry would not help, or a limit is reached.
        """
        if not isinstance(error, RETRIED_ERRORS) or not self._allows(0.0):
            raise UnreachableError(
                f"no answer from {error.request.url.copy_with(query=None)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._pause(None)

    def _allows(self, seconds: float) -> bool:
        waited = time.monotonic() - self.began
        return self.num_retries < self.max_retries and waited + seconds <= self.max_wait_seconds

    def _pause(self, asked: float | None) -> float:
        longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.num_retries)
        self.num_retries += 1
        return random.uniform(longest / 2, longest) if asked is None else asked


def patience(
    body: dict[str, Any] | None, timeout_seconds: float, max_retries: int, max_wait_seconds: float
) -> tuple[httpx2.Timeout, RetryPolicy]:
    """Return the timeout of one try, and when to retry."""
    read_seconds = timeout_seconds_of(body, timeout_seconds)
    max_wait_seconds += read_seconds - timeout_seconds
    timeout = httpx2.Timeout(timeout_seconds, read=read_seconds)
    return timeout, RetryPolicy(max_retries, max_wait_seconds)
