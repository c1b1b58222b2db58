"""Tokens in, batches out: joins the texts of concurrent requests.

Knows nothing of embeddings or HTTP. A device has slots, each with a thread that owns it, runs one
batch after the other and never waits for more to come: a batch is what has come while the last one
ran. A further thread prepares the next batch ahead, once it could not grow any more.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic

from service.batching.budget import BatchBudget
from service.batching.cost import BatchCost
from service.batching.program import Batch, Limits, PreparedT, Program
from service.batching.queue import Lane, Lanes
from service.batching.request import Answer, PayloadT, Request, ResultT, Text, deliver
from service.batching.slots import Slots
from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    DeviceBrokenError,
    NotReadyError,
    OverloadedError,
)

logger = logging.getLogger(__name__)
MAX_RETRY_AFTER_SECONDS = 60
# Of the time that a request has. The forecast errs, and an answer that is late is all for nothing.
MAX_WAIT_SHARE = 0.6
BROKEN = "the device failed: this instance must be restarted"


class Batcher(Generic[PayloadT, PreparedT, ResultT]):
    """Runs texts in batches within bounds of tokens; every request gets an answer or an error."""

    def __init__(self, program: Program[PayloadT, PreparedT, ResultT], limits: Limits) -> None:
        """Start the threads."""
        self._program = program
        self._limits = limits
        self._lanes: Lanes[Text[PayloadT, ResultT]] = Lanes(
            {"query": limits.max_batch_tokens, "bulk": limits.max_bulk_batch_tokens},
            limits.bulk_share,
        )
        self.cost = BatchCost()
        self._budget = BatchBudget(limits.max_batch_tokens)
        self.last_batch_failed = False
        self.is_broken = False
        self._slots = Slots(program.num_slots)
        self._prepared: Batch[PayloadT, PreparedT, ResultT] | None = None
        self._is_preparing = False
        self._is_closed = False
        self._lock = threading.Lock()
        # Each slot's owner waits for its own, so that the same one runs what comes one by one.
        self._has_work = [threading.Condition(self._lock) for _ in range(program.num_slots)]
        self._has_excess = threading.Condition(self._lock)  # the former does
        self._threads = [
            *(
                threading.Thread(target=self._own, args=(slot,), name="batch-owner", daemon=True)
                for slot in range(program.num_slots)
            ),
            threading.Thread(target=self._form_ahead, name="batch-former", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tell how many tokens wait for the device."""
        prepared = self._prepared
        return self._lanes.num_tokens + (prepared.num_tokens if prepared else 0)

    @property
    def batch_token_budget(self) -> int:
        """Tell how many padded tokens a batch may have."""
        return self._budget.num_tokens

    @property
    def running_seconds(self) -> float:
        """Tell for how long the oldest batch on the device has been running."""
        return self._slots.running_seconds(time.monotonic())

    @property
    def _prepared_lane(self) -> Lane | None:
        return self._prepared.lane if self._prepared else None

    def _wait_seconds(self, lane: Lane) -> float:
        """Predict how long a newcomer to a lane waits until its own batch begins."""
        cost, lanes = self.cost, self._lanes
        seconds = cost.backlog_seconds(
            lanes.num_tokens_before(lane), lanes.num_batches_before(lane)
        )
        if self._prepared and (lane == "bulk" or self._prepared.lane == "query"):
            seconds += cost.backlog_seconds(self._prepared.num_tokens)
        return seconds / self._slots.count + self._slots.wait_seconds(time.monotonic())

    def retry_after_seconds(self, lane: Lane, timeout_seconds: float) -> int | None:
        """Tell when a newcomer that could not be in time should come back; None if it could."""
        wait_seconds = self._wait_seconds(lane)
        if wait_seconds <= timeout_seconds * MAX_WAIT_SHARE:
            return None
        return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(wait_seconds)))

    async def submit(
        self,
        texts: Sequence[tuple[PayloadT, int]],
        lane: Lane,
        deadline: float,
    ) -> list[Answer[ResultT]]:
        """Have a request's texts run.

        Args:
            texts: payload and number of tokens of each.
            lane: `query` goes before `bulk`.
            deadline: on the monotonic clock.

        Returns:
            One answer a text, in order.

        Raises:
            OverloadedError: there is no room, or no time before the deadline.
            DeadlineExceededError: the deadline passed; what had not run was dropped.
            BatchFailedError: a text fails even alone.
            NotReadyError: the service is shutting down, or its device is broken.
        """
        request: Request[ResultT] = Request(len(texts))
        self._admit(
            [
                Text(payload, num_tokens, request, position, deadline, self._program.kind(payload))
                for position, (payload, num_tokens) in enumerate(texts)
            ],
            lane,
            deadline,
        )
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
        """Run what waits, then stop."""
        with self._lock:
            self._is_closed = True
            self._notify()
        for thread in self._threads:
            thread.join()

    def _admit(self, texts: list[Text[PayloadT, ResultT]], lane: Lane, deadline: float) -> None:
        num_tokens = sum(text.num_tokens for text in texts)
        with self._lock:
            if self.is_broken:
                raise DeviceBrokenError(BROKEN)
            if self._is_closed:
                raise NotReadyError("the service is shutting down: ask another instance")
            waiting = self.waiting_tokens
            is_full = waiting and waiting + num_tokens > self._limits.max_waiting_tokens
            seconds_left = deadline - time.monotonic() - self.cost.seconds(num_tokens)
            retry_after = self.retry_after_seconds(lane, -1.0 if is_full else seconds_left)
            if retry_after is not None:
                raise OverloadedError(retry_after)
            self._lanes.add(lane, texts)
            self._notify()

    def _own(self, slot: int) -> None:
        """Run batches until the batcher is closed and empty."""
        while batch := self._next_batch(slot):
            try:
                self._run(batch)
            except Exception as error:  # a bug here must not leave requests hanging
                logger.critical("the batcher broke: %s", type(error).__name__, exc_info=True)
                self._break(batch.texts)
            with self._lock:
                self._slots.end(slot)
            del batch  # or what its texts hold lives until the next one comes

    def _next_batch(self, slot: int) -> Batch[PayloadT, PreparedT, ResultT] | None:
        with self._lock:
            while not (batch := self._claim()):
                lane = self._lanes.next_lane(self._prepared_lane)
                if self._is_closed and lane is None and not self._is_preparing:
                    return None
                if lane is None:
                    self._has_work[slot].wait()
            self._slots.begin(slot, time.monotonic(), self.cost.seconds_of_texts(batch.num_tokens))
            self._notify()  # another slot may take the rest; the next one can be prepared
            return batch

    def _claim(self) -> Batch[PayloadT, PreparedT, ResultT] | None:
        lane = self._lanes.next_lane(self._prepared_lane)
        if self._prepared and self._prepared.lane == lane:
            batch, self._prepared = self._prepared, None
            return batch
        return self._take(lane, self._slots.num_idle) if lane else None

    def _take(self, lane: Lane, parts: int = 1) -> Batch[PayloadT, PreparedT, ResultT] | None:
        """Take a batch from a lane, at most one of so many equal parts of what waits there."""
        most = self._lanes.max_tokens_of_next(lane, parts)
        num_tokens = min(most, self._lanes.num_tokens_in(lane))
        now = time.monotonic()
        done_at = now + self.cost.seconds_of_texts(num_tokens)
        texts = self._lanes.take(lane, self.cost.overhead_tokens, now, done_at, parts)
        leaves_more = self._lanes.next_lane() is not None
        return Batch(lane, texts, leaves_more) if texts else None

    def _notify(self) -> None:
        """Wake who has something to do; waking all each time would cost more than it helps."""
        idle = self._slots.idle
        if not self._is_closed:
            idle = idle[:1] if self._lanes.next_lane(self._prepared_lane) else []
        for slot in idle:
            self._has_work[slot].notify()
        if self._is_closed or self._lane_to_prepare():
            self._has_excess.notify()

    def _form_ahead(self) -> None:
        """Prepare the next batch while one runs, once the lane holds more than fits in it."""
        while True:
            with self._lock:
                while not (lane := self._lane_to_prepare()):
                    if self._is_closed:
                        return
                    self._has_excess.wait()
                batch = self._take(lane)
                self._is_preparing = True
            # Where it fails, the owner prepares it again and handles the error.
            with suppress(Exception):
                if batch:
                    batch.prepared = self._program.prepare([text.payload for text in batch.texts])
            with self._lock:
                self._prepared, self._is_preparing = batch, False
                self._notify()
            del batch

    def _lane_to_prepare(self) -> Lane | None:
        lane = self._lanes.next_lane()
        if self._prepared or self._slots.num_idle or lane is None or not self._lanes.is_full(lane):
            return None
        return lane

    def _run(self, batch: Batch[PayloadT, PreparedT, ResultT]) -> None:
        texts = [text for text in batch.texts if not text.is_gone(time.monotonic())]
        if len(texts) < len(batch.texts):
            batch = Batch(batch.lane, texts, batch.leaves_more)
        if not texts:
            return
        started = time.monotonic()
        try:
            prepared = batch.prepared
            if prepared is None:
                prepared = self._program.prepare([text.payload for text in texts])
            results = self._program.run(prepared)
        except Exception as error:  # noqa: BLE001  the batch boundary: the loop must go on
            self._on_failure(batch, error)
            return
        seconds = time.monotonic() - started
        deliver(
            texts,
            [
                Answer(result, started - text.since)
                for result, text in zip(results, texts, strict=True)
            ],
        )
        self._on_success(batch, seconds)

    def _on_success(self, batch: Batch[PayloadT, PreparedT, ResultT], seconds: float) -> None:
        lengths = [text.num_tokens for text in batch.texts]
        padded_tokens = max(lengths) * len(lengths)
        self.last_batch_failed = False
        self._program.observe(batch.lane, len(lengths), sum(lengths), padded_tokens, seconds)
        with self._lock:
            self.cost.learn(padded_tokens, seconds, sum(lengths), batch.leaves_more)
            self._lanes.charge(batch.lane, seconds, self._prepared_lane)
            if self._budget.grow():
                self._lanes.limit(self._budget.num_tokens)

    def _on_failure(self, batch: Batch[PayloadT, PreparedT, ResultT], error: Exception) -> None:
        """Halve the batch until the bad text alone fails; halve the budget where memory ended."""
        fault = self._program.classify(error)
        texts = batch.texts
        logger.error("batch of %d failed (%s): %s", len(texts), fault, type(error).__name__)
        self.last_batch_failed = True
        if fault == "device":
            self._break(texts)
            return
        if fault == "memory":
            with self._lock:
                self._budget.halve()
                self._lanes.limit(self._budget.num_tokens)
        if len(texts) > 1:
            middle = len(texts) // 2
            for half in (texts[:middle], texts[middle:]):
                self._run(Batch(batch.lane, half))
            return
        reason = "there is not enough memory for it" if fault == "memory" else type(error).__name__
        deliver(texts, [BatchFailedError(f"a text cannot be encoded: {reason}")])

    def _break(self, running: Sequence[Text[PayloadT, ResultT]] = ()) -> None:
        """Give up: liveness fails, everything that waits is answered."""
        with self._lock:
            self.is_broken = True
            texts = [*running, *self._lanes.clear()]
            if self._prepared:
                texts += self._prepared.texts
                self._prepared = None
            self._notify()
        error = DeviceBrokenError(BROKEN)
        deliver(texts, [error] * len(texts))
