"""Tokens in, batches out: joins the items of concurrent requests.

Knows nothing of embeddings or HTTP. One owner thread runs all batches, and there is no wait: a
batch is what has come while the last ran.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
)

logger = logging.getLogger(__name__)
PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")
MAX_RETRY_AFTER_SECONDS = 60
# How much the last batch weighs in the running estimate of the speed.
SPEED_WEIGHT = 0.2


@dataclass(slots=True)
class Item(Generic[PayloadT]):
    """One text of a request."""

    payload: PayloadT
    num_tokens: int


@dataclass(slots=True)
class Answer(Generic[ResultT]):
    """What a batch made of an item, and how long the item waited for it."""

    result: ResultT
    queue_seconds: float


@dataclass(slots=True)
class _Waiting(Generic[PayloadT, ResultT]):
    item: Item[PayloadT]
    future: "asyncio.Future[Answer[ResultT]]"
    loop: asyncio.AbstractEventLoop
    since: float = field(default_factory=time.monotonic)

    def settle(self, outcome: Answer[ResultT] | Exception) -> None:
        """Hand the outcome to the request's event loop; a request that has gone gets nothing."""

        def set_outcome() -> None:
            if self.future.done():
                return
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        self.loop.call_soon_threadsafe(set_outcome)


class Batcher(Generic[PayloadT, ResultT]):
    """Runs items in batches, first come first served, within bounds of tokens."""

    def __init__(
        self,
        run_batch: Callable[[list[PayloadT]], list[ResultT]],
        *,
        max_batch_tokens: int,
        max_waiting_tokens: int,
    ) -> None:
        """Start the owner thread.

        Args:
            run_batch: turns payloads into results, one each, in order.
            max_batch_tokens: padded tokens of a batch (longest item x items); a longer item is a
                batch of its own.
            max_waiting_tokens: tokens that may wait.
        """
        self._run_batch = run_batch
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting_tokens = max_waiting_tokens
        self._queue: deque[_Waiting[PayloadT, ResultT]] = deque()
        self._waiting_tokens = 0
        self._tokens_per_second = 0.0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tell how many tokens wait for a batch."""
        return self._waiting_tokens

    async def submit(
        self, items: Sequence[Item[PayloadT]], timeout_seconds: float
    ) -> list[Answer[ResultT]]:
        """Have a request's items run.

        Returns:
            One answer an item, in order.

        Raises:
            OverloadedError: the queue has no room for them; an empty queue takes any request.
            DeadlineExceededError: they were not all run in time; those that were not are dropped.
            BatchFailedError: their batch failed.
            NotReadyError: the service is shutting down.
        """
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(item, loop.create_future(), loop) for item in items]
        self._admit(waiting)
        try:
            async with asyncio.timeout(timeout_seconds):
                answers = await asyncio.gather(*(entry.future for entry in waiting))
                return list(answers)
        except TimeoutError:
            raise DeadlineExceededError(
                "no answer before the deadline: ask for less or wait longer"
            ) from None
        finally:
            for entry in waiting:
                entry.future.cancel()

    def close(self) -> None:
        """Run what waits, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _admit(self, waiting: list[_Waiting[PayloadT, ResultT]]) -> None:
        num_tokens = sum(entry.item.num_tokens for entry in waiting)
        with self._changed:
            if self._is_closed:
                raise NotReadyError("the service is shutting down: ask another instance")
            total = self._waiting_tokens + num_tokens
            if self._waiting_tokens and total > self._max_waiting_tokens:
                raise OverloadedError(self._retry_after_seconds())
            self._queue.extend(waiting)
            self._waiting_tokens = total
            self._changed.notify()

    def _retry_after_seconds(self) -> int:
        speed = max(self._tokens_per_second, 1.0)
        return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(self._waiting_tokens / speed)))

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            try:
                results = self._run_batch([entry.item.payload for entry in batch])
                answered = list(zip(batch, results, strict=True))
            except Exception as error:  # noqa: BLE001  one failed batch must not stop the loop
                logger.error("batch of %d failed: %s", len(batch), type(error).__name__)
                for entry in batch:
                    entry.settle(BatchFailedError(f"the batch failed ({type(error).__name__})"))
                continue
            self._learn_speed(batch, time.monotonic() - started)
            for entry, result in answered:
                entry.settle(Answer(result, started - entry.since))

    def _next_batch(self) -> list[_Waiting[PayloadT, ResultT]]:
        """Wait for work and take a batch; empty once the batcher is closed and done."""
        batch: list[_Waiting[PayloadT, ResultT]] = []
        longest = 0
        with self._changed:
            while True:
                while self._queue:
                    entry = self._queue[0]
                    longest = max(longest, entry.item.num_tokens)
                    if batch and longest * (len(batch) + 1) > self._max_batch_tokens:
                        break
                    self._queue.popleft()
                    self._waiting_tokens -= entry.item.num_tokens
                    if not entry.future.cancelled():
                        batch.append(entry)
                if batch or self._is_closed:
                    return batch
                self._changed.wait()

    def _learn_speed(self, batch: list[_Waiting[PayloadT, ResultT]], seconds: float) -> None:
        speed = sum(entry.item.num_tokens for entry in batch) / max(seconds, 1e-6)
        weight = SPEED_WEIGHT if self._tokens_per_second else 1.0
        self._tokens_per_second += weight * (speed - self._tokens_per_second)
