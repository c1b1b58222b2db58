"""What a key has used: how often it has asked, and how many tokens it has in the works."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.auth.keys import Key
from service.errors import ContentTooLargeError, QuotaExceededError, RateLimitedError

# A batch takes less: by then something of the key's is done.
QUOTA_RETRY_SECONDS = 1


class Account:
    """A key and its use; lives in the event loop."""

    def __init__(self, name: str, key: Key) -> None:
        """Start with nothing used."""
        self.name = name
        self.key = key
        self.tokens = 0
        self._due = 0.0  # when the key's requests so far would have come at its rate

    def count_request(self, now: float | None = None) -> None:
        """Take a request in, if the key's rate allows it: a second's worth at once (GCRA).

        Raises:
            RateLimitedError: it does not.
        """
        rate = self.key.requests_per_second
        if rate is None:
            return
        now = time.monotonic() if now is None else now
        due = max(self._due, now)
        wait_seconds = due - now - max(0.0, 1 - 1 / rate)
        if wait_seconds > 1e-9:
            raise RateLimitedError(
                f"the key may ask {rate:g} times a second", math.ceil(wait_seconds)
            )
        self._due = due + 1 / rate

    @contextmanager
    def hold(self, num_tokens: int) -> Iterator[None]:
        """Count tokens while they are in the works.

        Raises:
            QuotaExceededError: the key has too many there already.
            ContentTooLargeError: they are more than it may ever have.
        """
        limit = self.key.max_tokens
        if limit is not None and num_tokens > limit:
            raise ContentTooLargeError(
                f"the request has {num_tokens} tokens and the key may have {limit} in the works: "
                "send fewer texts at once"
            )
        if limit is not None and self.tokens + num_tokens > limit:
            raise QuotaExceededError(
                f"the key may have {limit} tokens in the works", QUOTA_RETRY_SECONDS
            )
        self.tokens += num_tokens
        try:
            yield
        finally:
            self.tokens -= num_tokens


# Whose request is being answered; None where the service asks for no key.
ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def hold_tokens(num_tokens: int) -> Iterator[None]:
    """Count tokens on whoever asks; errors are those of `Account.hold`."""
    account = ACCOUNT.get()
    if account is None:
        yield
        return
    with account.hold(num_tokens):
        yield
