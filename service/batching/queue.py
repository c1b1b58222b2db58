"""The queue of waiting texts: two lanes, which lane is next, and how long a new text waits."""

import math
from typing import Generic

from service.batching.cost import BatchBudget, BatchCost
from service.batching.lane import LaneQueue
from service.batching.packing import MAX_PADDING_SHARE, TextT, pick, trim
from service.batching.program import Batch, Limits, PreparedT
from service.batching.request import LANES, Lane

# How many of the first texts of a lane may form a batch. Fewer find no texts of like length. More
# make texts of rare length wait: with 512, one in six waited too long.
WINDOW_TEXTS = 128
# By how much the device time of the lanes fades with each batch.
SHARE_DECAY = 0.9


class BatchQueue(Generic[TextT, PreparedT]):
    """Texts in two lanes, and the batch prepared ahead, which waits until a slot claims it.

    Queries go before bulk, but bulk has its share of the device's time. Not thread-safe: callers
    hold the batcher's lock.
    """

    def __init__(self, limits: Limits) -> None:
        """Start empty."""
        self._max_tokens: dict[Lane, int] = {
            "query": limits.max_batch_tokens,
            "bulk": limits.max_bulk_batch_tokens,
        }
        self._lanes = {lane: LaneQueue[TextT](self._max_tokens[lane]) for lane in LANES}
        self._bulk_share = limits.bulk_share
        self.cost = BatchCost()
        self.budget = BatchBudget(limits.max_batch_tokens)
        self.prepared: Batch[TextT, PreparedT] | None = None
        self._in_preparation: Batch[TextT, PreparedT] | None = None

    @property
    def is_preparing(self) -> bool:
        """Return whether a batch is being prepared."""
        return self._in_preparation is not None

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens in the queue; needs no lock."""
        return self.num_tokens_before("bulk")

    def backlog_seconds(self, lane: Lane, num_tokens: int = 0, now: float = 0.0) -> float:
        """Predict the device time of others before the last text of a new request."""
        return self.cost.backlog_seconds(
            self.num_tokens_before(lane, num_tokens, now),
            self.num_batches_before(lane, num_tokens, now),
        )

    def num_tokens_before(self, lane: Lane, num_tokens: int = 0, now: float = 0.0) -> int:
        """Return the tokens of others that run before the last text of a request of `num_tokens`.

        With 0, the tokens in the queue that run before any new text of the lane. That needs no
        lock.
        """
        ahead = self._ahead_of(lane)
        waiting = self._lanes[lane].num_tokens_before(num_tokens, now)
        waiting += self._lanes["query"].num_tokens if lane == "bulk" else 0
        return waiting + (ahead.num_tokens if ahead else 0)

    def num_batches_before(self, lane: Lane, num_tokens: int = 0, now: float = 0.0) -> int:
        """Return the number of full batches that hold `num_tokens_before`."""
        own, query = self._lanes[lane], self._lanes["query"]
        num_batches = -(-own.num_tokens_before(num_tokens, now) // own.max_batch_tokens)
        num_batches += -(-query.num_tokens // query.max_batch_tokens) if lane == "bulk" else 0
        return num_batches + (self._ahead_of(lane) is not None)

    def max_batch_tokens(self, lane: Lane) -> int:
        """Return the tokens that a batch of a lane may have: the size of a slice."""
        return self._lanes[lane].max_batch_tokens

    def add(self, lane: Lane, texts: list[TextT]) -> None:
        """Add the texts of one request to a lane."""
        self._lanes[lane].add(texts)

    def next_lane(self) -> Lane | None:
        """Return the lane of the next batch; None if nothing waits."""
        waiting = [lane for lane in LANES if self._lanes[lane].texts or self._is_prepared(lane)]
        if len(waiting) < len(LANES):
            return waiting[0] if waiting else None
        query, bulk = (self._lanes[lane].device_seconds for lane in LANES)
        return "bulk" if bulk < self._bulk_share * (bulk + query) else "query"

    def lane_to_prepare(self) -> Lane | None:
        """Return the lane whose next batch can be prepared: one that could not grow any more."""
        lane = self.next_lane()
        if self._ahead_of("bulk") or lane is None:
            return None
        state = self._lanes[lane]
        return lane if state.num_tokens >= state.max_batch_tokens else None

    def learn(self, batch: Batch[TextT, PreparedT], padded_tokens: int, seconds: float) -> None:
        """Update forecast, shares and budget after a batch that succeeded."""
        self.cost.learn(padded_tokens, seconds, batch.num_tokens, batch.leaves_more)
        self.charge(batch.lane, seconds)
        if self.budget.grow():
            self._limit()

    def charge(self, lane: Lane, seconds: float) -> None:
        """Add a batch's device time to its lane, if the other lane waited meanwhile."""
        [other] = [name for name in LANES if name != lane]
        if self._lanes[other].texts or self._is_prepared(other):
            for state in self._lanes.values():
                state.device_seconds *= SHARE_DECAY
            self._lanes[lane].device_seconds += seconds

    def halve_budget(self) -> None:
        """Halve the padded tokens of a batch after one that ran out of memory."""
        self.budget.halve()
        self._limit()

    def clear(self) -> list[TextT]:
        """Remove and return all texts."""
        texts = [text for state in self._lanes.values() for text in state.clear()]
        if self.prepared:
            texts += self.prepared.texts
            self.prepared = None
        return texts

    def claim(self, now: float, parts: int) -> Batch[TextT, PreparedT] | None:
        """Remove and return the next batch; None if nothing waits. See `take` for `parts`."""
        lane = self.next_lane()
        if self.prepared and self.prepared.lane == lane:
            batch, self.prepared = self.prepared, None
            return batch
        return self.form(lane, now, parts) if lane else None

    def begin_preparation(self, lane: Lane, now: float) -> Batch[TextT, PreparedT] | None:
        """Form a lane's next batch; it still waits, but is not claimed before `end_preparation`."""
        self._in_preparation = self.form(lane, now)
        return self._in_preparation

    def end_preparation(self) -> None:
        """Let a slot claim the batch that was prepared."""
        self.prepared, self._in_preparation = self._in_preparation, None

    def form(self, lane: Lane, now: float, parts: int = 1) -> Batch[TextT, PreparedT] | None:
        """Form a lane's next batch of the texts that can be answered in time."""
        num_tokens = min(self._max_tokens_of_next(lane, parts), self._lanes[lane].num_tokens)
        done_at = now + self.cost.seconds_of_texts(num_tokens)
        texts = self.take(lane, self.cost.overhead_tokens, now, done_at, parts)
        leaves_more = any(state.texts for state in self._lanes.values())
        return Batch(lane, texts, leaves_more) if texts else None

    def take(
        self, lane: Lane, overhead_tokens: float, now: float, done_at: float, parts: int = 1
    ) -> list[TextT]:
        """Remove and return the oldest text of a lane and others of its kind and of like length.

        Args:
            lane: the lane to take from.
            overhead_tokens: padding tokens that take as long as another batch.
            now: time on the monotonic clock.
            done_at: expected end of the batch; texts whose deadline is earlier are dropped. If no
                text would be left, all are kept: only running a batch can correct the forecast.
            parts: into how many batches, one for each slot, the waiting tokens are divided.
        """
        state = self._lanes[lane]
        max_tokens = self._max_tokens_of_next(lane, parts)
        awaited = [text for text in state.texts if not text.is_gone(now)]
        alive = [text for text in awaited if not text.is_gone(done_at)] or awaited
        alike = [text for text in alive if text.kind == alive[0].kind]
        batch = pick(alike[:WINDOW_TEXTS], max_tokens, overhead_tokens)
        if len(batch) < len(alike):
            batch = trim(batch, alive[0])
        chosen = set(map(id, batch))
        state.keep([text for text in alive if id(text) not in chosen], now)
        return batch

    def _max_tokens_of_next(self, lane: Lane, parts: int) -> int:
        state = self._lanes[lane]
        if parts == 1:
            return state.max_batch_tokens
        share = math.ceil(state.num_pending_tokens / parts / (1 - MAX_PADDING_SHARE))
        return min(share, state.max_batch_tokens)

    def _limit(self) -> None:
        for lane, state in self._lanes.items():
            state.max_batch_tokens = min(self._max_tokens[lane], self.budget.num_tokens)

    def _ahead_of(self, lane: Lane) -> Batch[TextT, PreparedT] | None:
        """Return the batch that is prepared or in preparation, if it runs before a lane's texts."""
        ahead = self.prepared or self._in_preparation
        return ahead if ahead and lane in ("bulk", ahead.lane) else None

    def _is_prepared(self, lane: Lane) -> bool:
        return self.prepared is not None and self.prepared.lane == lane
