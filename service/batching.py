"""Tokens in, batches out: joins the texts of concurrent requests.

Knows nothing of embeddings or HTTP. One owner thread runs all batches and never waits for more to
come: a batch is what has come while the last one ran. A second thread prepares the next batch
ahead, once it could not grow any more.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batch_cost import BatchCost
from service.batch_request import Answer, PayloadT, Request, ResultT, Text, deliver
from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    DeviceBrokenError,
    NotReadyError,
    OverloadedError,
)
from service.faults import Fault
from service.lanes import Lane, Lanes

logger = logging.getLogger(__name__)
PreparedT = TypeVar("PreparedT")
MAX_RETRY_AFTER_SECONDS = 60
MIN_BATCH_TOKENS = 16
BROKEN = "the device failed: this instance must be restarted"
# After so many good batches a budget that was halved is doubled again.
RECOVERY_BATCHES = 500


@dataclass(frozen=True)
class Limits:
    """Bounds of a batcher, in tokens."""

    max_batch_tokens: int
    max_bulk_batch_tokens: int
    max_waiting_tokens: int
    bulk_share: float


@dataclass(frozen=True)
class Program(Generic[PayloadT, PreparedT, ResultT]):
    """What a batch is put through.

    `prepare` may run in another thread than `run` and ahead of it; `classify` tells what an
    exception of either means; `observe` is told lane, texts, tokens, padded tokens and seconds.
    """

    prepare: Callable[[list[PayloadT]], PreparedT]
    run: Callable[[PreparedT], list[ResultT]]
    classify: Callable[[Exception], Fault]
    observe: Callable[[Lane, int, int, int, float], None] = lambda *figures: None


@dataclass(slots=True)
class _Batch(Generic[PayloadT, PreparedT, ResultT]):
    lane: Lane
    texts: list[Text[PayloadT, ResultT]]
    prepared: PreparedT | None = None

    @property
    def num_tokens(self) -> int:
        return sum(text.num_tokens for text in self.texts)


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
        self.batch_token_budget = limits.max_batch_tokens
        self.last_batch_failed = False
        self.is_broken = False
        self._running_since: float | None = None
        self._running_until = 0.0
        self._good_batches = 0
        self._prepared: _Batch[PayloadT, PreparedT, ResultT] | None = None
        self._is_preparing = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._has_work = threading.Condition(self._lock)  # the owner waits for it
        self._has_excess = threading.Condition(self._lock)  # the former does
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("batch-owner", self._own), ("batch-former", self._form_ahead))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tell how many tokens wait for the device."""
        prepared = self._prepared
        return self._lanes.num_tokens + (prepared.num_tokens if prepared else 0)

    @property
    def running_seconds(self) -> float:
        """Tell for how long the batch on the device has been running."""
        since = self._running_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def _prepared_lane(self) -> Lane | None:
        return self._prepared.lane if self._prepared else None

    def _wait_seconds(self, lane: Lane) -> float:
        """Predict how long a newcomer to a lane waits."""
        cost, lanes = self.cost, self._lanes
        seconds = cost.seconds_of_texts(
            lanes.num_tokens_before(lane), lanes.num_batches_before(lane)
        )
        if self._prepared and (lane == "bulk" or self._prepared.lane == "query"):
            seconds += cost.seconds_of_texts(self._prepared.num_tokens)
        return seconds + max(0.0, self._running_until - time.monotonic())

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
                Text(payload, num_tokens, request, position, deadline)
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
            wait_seconds = self._wait_seconds(lane)
            is_full = waiting and waiting + num_tokens > self._limits.max_waiting_tokens
            if is_full or time.monotonic() + wait_seconds > deadline:
                retry_after = min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(wait_seconds)))
                raise OverloadedError(retry_after)
            self._lanes.add(lane, texts)
            self._notify()

    def _own(self) -> None:
        """Run batches until the batcher is closed and empty."""
        while batch := self._next_batch():
            with self._lock:
                self._running_since = time.monotonic()
                self._running_until = self._running_since + self.cost.seconds_of_texts(
                    batch.num_tokens
                )
                self._notify()  # the next one can be prepared meanwhile
            try:
                self._run(batch)
            except Exception as error:  # a bug here must not leave requests hanging
                logger.critical("the batcher broke: %s", type(error).__name__, exc_info=True)
                self._break(batch.texts)
            self._running_since, self._running_until = None, 0.0

    def _next_batch(self) -> _Batch[PayloadT, PreparedT, ResultT] | None:
        with self._lock:
            while True:
                lane = self._lanes.next_lane(self._prepared_lane)
                if self._prepared and self._prepared.lane == lane:
                    batch, self._prepared = self._prepared, None
                    return batch
                if lane and (texts := self._take(lane)):
                    return _Batch(lane, texts)
                if lane is None and self._is_closed and not self._is_preparing:
                    return None
                if lane is None:
                    self._has_work.wait()

    def _take(self, lane: Lane) -> list[Text[PayloadT, ResultT]]:
        seconds = self.cost.seconds_of_texts(self._lanes.max_tokens_of_next(lane))
        now = time.monotonic()
        return self._lanes.take(lane, self.cost.overhead_tokens, now, now + seconds)

    def _notify(self) -> None:
        """Wake who has something to do; waking both each time would cost more than it helps."""
        if self._running_since is None or self._is_closed:
            self._has_work.notify()
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
                texts = self._take(lane)
                self._is_preparing = True
            batch = _Batch[PayloadT, PreparedT, ResultT](lane, texts)
            try:
                batch.prepared = self._program.prepare([text.payload for text in texts])
            except Exception:  # noqa: BLE001  the owner prepares it again and handles the error
                batch.prepared = None
            with self._lock:
                self._prepared, self._is_preparing = (batch if texts else None), False
                self._has_work.notify()

    def _lane_to_prepare(self) -> Lane | None:
        lane = self._lanes.next_lane()
        is_idle = self._running_since is None
        if self._prepared or is_idle or lane is None or not self._lanes.is_full(lane):
            return None
        return lane

    def _run(self, batch: _Batch[PayloadT, PreparedT, ResultT]) -> None:
        texts = [text for text in batch.texts if not text.is_gone(time.monotonic())]
        if len(texts) < len(batch.texts):
            batch = _Batch(batch.lane, texts)
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

    def _on_success(self, batch: _Batch[PayloadT, PreparedT, ResultT], seconds: float) -> None:
        lengths = [text.num_tokens for text in batch.texts]
        padded_tokens = max(lengths) * len(lengths)
        self.last_batch_failed = False
        self._program.observe(batch.lane, len(lengths), sum(lengths), padded_tokens, seconds)
        with self._lock:
            self.cost.learn(padded_tokens, seconds, sum(lengths))
            self._lanes.charge(batch.lane, seconds, self._prepared_lane)
            self._good_batches += 1
            if self._good_batches % RECOVERY_BATCHES == 0:
                self._set_budget(self.batch_token_budget * 2)

    def _on_failure(self, batch: _Batch[PayloadT, PreparedT, ResultT], error: Exception) -> None:
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
                self._set_budget(self.batch_token_budget // 2)
        if len(texts) > 1:
            middle = len(texts) // 2
            for half in (texts[:middle], texts[middle:]):
                self._run(_Batch(batch.lane, half))
            return
        reason = "there is not enough memory for it" if fault == "memory" else type(error).__name__
        deliver(texts, [BatchFailedError(f"a text cannot be encoded: {reason}")])

    def _set_budget(self, num_tokens: int) -> None:
        budget = min(max(num_tokens, MIN_BATCH_TOKENS), self._limits.max_batch_tokens)
        self.batch_token_budget = budget
        self._good_batches = 0
        self._lanes.limit(budget)

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
