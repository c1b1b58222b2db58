"""Whether a request can be answered in time, and what a request is told that cannot."""

import math
import time
from typing import Generic

from service.batching.packing import TextT
from service.batching.program import Limits, PreparedT, Slots
from service.batching.queue import BatchQueue
from service.batching.request import Lane
from service.errors import OverloadedError, RequestError, ShortDeadlineError

MAX_RETRY_AFTER_SECONDS = 60
# Share of a request's spare time that it may wait. The forecast can be wrong, and a late answer is
# wasted work.
MAX_WAIT_SHARE = 0.6
# A shorter wait before admission is the handover between threads, not the work of others.
HANDOVER_SECONDS = 0.01


class Forecast(Generic[TextT, PreparedT]):
    """Predicts the seconds of a request: alone on the device, and behind the work of others."""

    def __init__(self, queue: BatchQueue[TextT, PreparedT], slots: Slots, limits: Limits) -> None:
        """Read the queue and the slots of a batcher."""
        self._queue = queue
        self._slots = slots
        self._max_waiting_tokens = limits.max_waiting_tokens

    def seconds_alone(self, lane: Lane, num_tokens: int) -> float:
        """Predict the seconds that a request takes on an idle device."""
        num_batches = max(1, -(-num_tokens // self._queue.max_batch_tokens(lane)))
        seconds = self._queue.cost.seconds_of_texts(num_tokens, num_batches)
        return seconds / min(num_batches, self._slots.count)

    def wait_seconds(self, lane: Lane, num_tokens: int = 0) -> float:
        """Predict the seconds that the work of others adds to a request; 0 on an idle device.

        With 0 tokens, the wait of the smallest request. That needs no lock.
        """
        now = time.monotonic()
        backlog = self._queue.backlog_seconds(lane, num_tokens, now) / self._slots.count
        return backlog + self._slots.wait_seconds(now)

    def refusal(
        self,
        lane: Lane,
        num_tokens: int,
        seconds_left: float,
        own_seconds: float = 0.0,
        waited_seconds: float = 0.0,
    ) -> RequestError | None:
        """Return the error of a request that cannot be answered in time; None if it can be.

        Args:
            lane: of the request.
            num_tokens: of all its texts.
            seconds_left: until its deadline.
            own_seconds: spent on its own work so far, such as tokenizing.
            waited_seconds: spent so far on waiting for others.

        Returns:
            `ShortDeadlineError` if the request would be late even alone, `OverloadedError` if the
            cause is the work of others.
        """
        wait = self.wait_seconds(lane, num_tokens)
        # Beside others, own work takes longer than alone, so its time says nothing.
        is_alone = not wait and waited_seconds < HANDOVER_SECONDS
        spent = own_seconds + waited_seconds
        own_seconds, waited_seconds = (spent, 0.0) if is_alone else (0.0, spent)
        alone = self.seconds_alone(lane, num_tokens)
        least = self._queue.cost.least_seconds(num_tokens) / self._slots.count
        # An idle device tries what may be possible: that corrects a wrong forecast.
        needed = alone if wait else least
        if seconds_left + waited_seconds < needed:
            seconds = own_seconds + max(alone, least)
            timeout_seconds = own_seconds + waited_seconds + seconds_left
            return _short_deadline(lane, seconds, own_seconds + least, timeout_seconds)
        waiting = self._queue.num_tokens_before(lane)
        slice_tokens = min(num_tokens, self._queue.max_batch_tokens(lane))
        is_full = waiting and waiting + slice_tokens > self._max_waiting_tokens
        is_late = seconds_left < needed or wait > MAX_WAIT_SHARE * max(0.0, seconds_left - alone)
        if is_full or is_late:
            return OverloadedError(min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(wait))))
        return None


def _short_deadline(
    lane: Lane, seconds: float, least_seconds: float, timeout_seconds: float
) -> ShortDeadlineError:
    stated = max(float(f"{seconds:.2g}"), timeout_seconds)  # rounded, never below the timeout
    timeout_ms = math.ceil(15 * seconds) * 100  # half as much again: the forecast can be wrong
    fix = "leave timeout_ms out" if lane == "bulk" else f"set timeout_ms to {timeout_ms} or more"
    return ShortDeadlineError(
        f"the request takes about {stated:.6g} s even on an idle device: "
        f"{fix}, or send fewer or shorter texts",
        least_seconds,
    )
