"""Dynamic batching: joins the texts of concurrent requests into batches for one device.

Knows nothing of embeddings or HTTP. Each slot of the device has a thread that owns it. It runs one
batch after the other and never waits for more texts: a batch holds what arrived while the last one
ran. One more thread prepares the next batch as soon as it could not grow any more.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic

from service.batching.forecast import Forecast
from service.batching.program import Batch, Limits, PreparedT, Program, Slots
from service.batching.queue import BatchQueue
from service.batching.request import (
    Answer,
    Lane,
    PayloadT,
    Request,
    RequestText,
    ResultT,
    Spent,
    deliver,
)
from service.batching.runner import BatchRunner
from service.errors import (
    DeadlineExceededError,
    DeviceBrokenError,
    NotReadyError,
    RequestError,
)

logger = logging.getLogger(__name__)
BROKEN = "the device failed: this instance must be restarted"


class Batcher(Generic[PayloadT, PreparedT, ResultT]):
    """Runs texts in batches of bounded size; every request gets an answer or an error."""

    def __init__(self, program: Program[PayloadT, PreparedT, ResultT], limits: Limits) -> None:
        """Start the threads."""
        self._program = program
        self._queue = BatchQueue[RequestText[PayloadT, ResultT], PreparedT](limits)
        self.cost = self._queue.cost
        self.is_broken = False
        self._slots = Slots(program.num_slots)
        self._forecast = Forecast(self._queue, self._slots, limits)
        self._is_closed = False
        self._lock = threading.Lock()
        self._runner = BatchRunner(program, self._queue, self._lock, self._break)
        # One condition for each slot, so that requests one by one stay with the same slot.
        self._has_work = [threading.Condition(self._lock) for _ in range(program.num_slots)]
        self._has_excess = threading.Condition(self._lock)  # for the thread that prepares
        self._threads = [
            *(
                threading.Thread(target=self._own, args=(slot,), name="batch-owner", daemon=True)
                for slot in range(program.num_slots)
            ),
            threading.Thread(target=self._prepare_ahead, name="batch-former", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Return the number of tokens in the queue."""
        return self._queue.num_tokens

    @property
    def batch_token_budget(self) -> int:
        """Return the number of padded tokens that a batch may have."""
        return self._queue.budget.num_tokens

    @property
    def last_batch_failed(self) -> bool:
        """Return whether the last batch failed."""
        return self._runner.last_batch_failed

    def is_stuck(self, least_seconds: float) -> bool:
        """Return whether a batch runs far longer than forecast, and than `least_seconds`."""
        return self._slots.is_stuck(time.monotonic(), least_seconds)

    def is_idle(self, lane: Lane) -> bool:
        """Return whether a new request would wait for nothing."""
        return self._forecast.wait_seconds(lane) == 0

    def refusal(self, lane: Lane, timeout_seconds: float) -> RequestError | None:
        """Return why even the smallest request would now be late; None if it would not be."""
        return self._forecast.refusal(lane, 1, timeout_seconds)

    def seconds_alone(self, lane: Lane, num_tokens: int) -> float:
        """Predict the seconds that a request takes on an idle device."""
        return self._forecast.seconds_alone(lane, num_tokens)

    def admit(
        self, num_tokens: int, lane: Lane, deadline: float, spent: Spent | None = None
    ) -> None:
        """Check that a request can be answered in time.

        Args:
            num_tokens: of all its texts.
            lane: `query` goes before `bulk`.
            deadline: on the monotonic clock.
            spent: the time of the request so far.

        Raises:
            ShortDeadlineError: the answer would be late even on an idle device.
            OverloadedError: the queue is full, or the answer would be late because of others.
        """
        now = time.monotonic()
        own, waited = (spent.own_seconds, spent.waited_seconds(now)) if spent else (0.0, 0.0)
        with self._lock:
            self._check_open()
            refusal = self._forecast.refusal(lane, num_tokens, deadline - now, own, waited)
        if refusal is not None:
            raise refusal

    async def submit(
        self,
        payloads: Sequence[PayloadT],
        lane: Lane,
        deadline: float,
        spent: Spent | None = None,
    ) -> list[Answer[ResultT]]:
        """Admit the texts of a request, and run them; see `admit` and `run`."""
        self.admit(sum(map(self._program.num_tokens, payloads)), lane, deadline, spent)
        return await self.run(payloads, lane, deadline)

    async def run(
        self, payloads: Sequence[PayloadT], lane: Lane, deadline: float
    ) -> list[Answer[ResultT]]:
        """Run texts of a request that was admitted.

        Returns:
            One answer for each text, in order.

        Raises:
            DeadlineExceededError: the deadline passed; texts that had not run are dropped.
            BatchFailedError: a text fails even alone.
            NotReadyError: the service is shutting down, or its device is broken.
        """
        request: Request[ResultT] = Request(len(payloads))
        num_tokens, kind = self._program.num_tokens, self._program.kind
        texts = [
            RequestText(payload, num_tokens(payload), request, position, deadline, kind(payload))
            for position, payload in enumerate(payloads)
        ]
        with self._lock:
            self._check_open()
            self._queue.add(lane, texts)
            self._notify()
        try:
            async with asyncio.timeout_at(request.loop.time() + deadline - time.monotonic()):
                return await request.future
        except TimeoutError:
            raise DeadlineExceededError(
                "no answer before the deadline: ask for less or set a longer timeout_ms"
            ) from None
        finally:
            request.is_gone = True

    def close(self) -> None:
        """Run the texts that wait, then stop the threads."""
        with self._lock:
            self._is_closed = True
            self._notify()
        for thread in self._threads:
            thread.join()

    def _check_open(self) -> None:
        if self.is_broken:
            raise DeviceBrokenError(BROKEN)
        if self._is_closed:
            raise NotReadyError("the service is shutting down: ask another instance")

    def _notify(self) -> None:
        """Wake the threads that have work; waking all of them each time would cost too much."""
        idle = self._slots.idle
        if not self._is_closed:
            idle = idle[:1] if self._queue.next_lane() else []
        for slot in idle:
            self._has_work[slot].notify()
        if self._is_closed or self._lane_to_prepare():
            self._has_excess.notify()

    def _own(self, slot: int) -> None:
        """Run batches until the batcher is closed and the queue empty."""
        while batch := self._next_batch(slot):
            try:
                self._runner.run(batch)
            except Exception as error:  # a bug here must not leave requests without an answer
                logger.critical("the batcher broke: %s", type(error).__name__, exc_info=True)
                self._break(batch.texts)
            with self._lock:
                self._slots.end(slot)
            del batch  # else its texts stay in memory until the next batch

    def _next_batch(self, slot: int) -> Batch[RequestText[PayloadT, ResultT], PreparedT] | None:
        with self._lock:
            while not (batch := self._queue.claim(time.monotonic(), self._slots.num_idle)):
                lane = self._queue.next_lane()
                if self._is_closed and lane is None and not self._queue.is_preparing:
                    return None
                if lane is None:
                    self._has_work[slot].wait()
            self._slots.begin(slot, time.monotonic(), self.cost.seconds_of_texts(batch.num_tokens))
            self._notify()  # another slot may take the rest; the next batch can be prepared
            return batch

    def _prepare_ahead(self) -> None:
        """Prepare the next batch while one runs, once its lane holds more than fits in it."""
        while True:
            with self._lock:
                while not (lane := self._lane_to_prepare()):
                    if self._is_closed:
                        return
                    self._has_excess.wait()
                batch = self._queue.begin_preparation(lane, time.monotonic())
            # If this fails, the slot's owner prepares the batch again and handles the error.
            with suppress(Exception):
                if batch:
                    batch.prepared = self._program.prepare([text.payload for text in batch.texts])
            with self._lock:
                self._queue.end_preparation()
                self._notify()
            del batch

    def _lane_to_prepare(self) -> Lane | None:
        return None if self._slots.num_idle else self._queue.lane_to_prepare()

    def _break(self, running: Sequence[RequestText[PayloadT, ResultT]] = ()) -> None:
        """Stop for good: liveness fails, and every waiting text gets an error."""
        with self._lock:
            self.is_broken = True
            texts = [*running, *self._queue.clear()]
            self._notify()
        error = DeviceBrokenError(BROKEN)
        deliver(texts, [error] * len(texts))
