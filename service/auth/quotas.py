"""Quotas: request rate and tokens in flight of each key."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.auth.keys import Key
from service.errors import ContentTooLargeError, QuotaExceededError, RateLimitedError

# A batch takes less time: by then some of the key's tokens are done.
QUOTA_RETRY_SECONDS = 1


class Account:
    """A key and its current use; not thread-safe, for use in the event loop."""

    def __init__(self, name: str, key: Key) -> None:
        """Start without any use."""
        self.name = name
        self.key = key
        self.tokens = 0
        self._due = 0.0  # arrival time of the next request at exactly the key's rate (GCRA)

    def count_request(self, now: float | None = None) -> None:
        """Count a request against the rate limit, which allows a burst of one second (GCRA).

        Raises:
            RateLimitedError: the request exceeds the rate limit.
        """
        rate = self.key.requests_per_second
        if rate is None:
            return
        now = time.monotonic() if now is None else now
        due = max(self._due, now)
        wait_seconds = due - now - max(0.0, 1 - 1 / rate)
        if wait_seconds > 1e-9:
            raise RateLimitedError(
                f"the key is limited to {rate:g} requests per second", math.ceil(wait_seconds)
            )
        self._due = due + 1 / rate

    @contextmanager
    def hold(self, num_tokens: int) -> Iterator[None]:
        """Count tokens as in flight until the block ends.

        Raises:
            QuotaExceededError: the tokens in flight would exceed the key's limit.
            ContentTooLargeError: the request alone exceeds the key's limit.
        """
        limit = self.key.max_tokens
        if limit is not None and num_tokens > limit:
            raise ContentTooLargeError(
                f"the request has {num_tokens} tokens and the key may have {limit} in flight: "
                "send fewer texts at once"
            )
        if limit is not None and self.tokens + num_tokens > limit:
            raise QuotaExceededError(
                f"the key may have {limit} tokens in flight", QUOTA_RETRY_SECONDS
            )
        self.tokens += num_tokens
        try:
            yield
        finally:
            self.tokens -= num_tokens


# Account of the current request; None if no key is required.
ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def hold_tokens(num_tokens: int) -> Iterator[None]:
    """Count tokens for the account of the current request; raises as `Account.hold`."""
    account = ACCOUNT.get()
    if account is None:
        yield
        return
    with account.hold(num_tokens):
        yield
