"""Who is next: two lanes of waiting texts, and which of them make a batch with little padding."""

import math
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

Lane = Literal["query", "bulk"]
LANES: tuple[Lane, Lane] = ("query", "bulk")
# Among how many of the first in a lane a batch is looked for: enough to find like lengths, and few
# enough that those of rare length wait no longer than others, which was one in six too long at 512.
WINDOW_TEXTS = 128
MAX_PADDING_SHARE = 0.1
# How fast the time that the lanes had fades, batch by batch.
SHARE_DECAY = 0.9


class Text(Protocol):
    """What waits in a lane."""

    @property
    def num_tokens(self) -> int:
        """Tell its length."""

    @property
    def kind(self) -> object:
        """Tell what it can share a batch with: texts of its own kind."""

    def is_gone(self, moment: float) -> bool:
        """Tell whether nobody will wait for it at a moment of the monotonic clock."""


TextT = TypeVar("TextT", bound=Text)


@dataclass(slots=True)
class _Queue(Generic[TextT]):
    texts: list[TextT]
    max_batch_tokens: int
    device_seconds: float = 0.0
    num_tokens: int = 0


class Lanes(Generic[TextT]):
    """Queries go before bulk, which has its share of the device's time all the same.

    Not thread-safe: the batcher holds its lock.
    """

    def __init__(self, max_tokens: dict[Lane, int], bulk_share: float) -> None:
        """Start empty.

        Args:
            max_tokens: padded tokens of a batch at the most, a lane.
            bulk_share: of the time of the device while both lanes wait, from 0 to 1.
        """
        self._queues = {lane: _Queue[TextT]([], max_tokens[lane]) for lane in LANES}
        self._max_tokens = max_tokens
        self._bulk_share = bulk_share

    @property
    def num_tokens(self) -> int:
        """Count the waiting tokens of both lanes."""
        return sum(queue.num_tokens for queue in self._queues.values())

    def num_tokens_in(self, lane: Lane) -> int:
        """Count a lane's waiting tokens."""
        return self._queues[lane].num_tokens

    def num_tokens_before(self, lane: Lane) -> int:
        """Count the waiting tokens that a newcomer to a lane waits for."""
        return self._queues["query"].num_tokens if lane == "query" else self.num_tokens

    def num_batches_before(self, lane: Lane) -> int:
        """Count the full batches that a newcomer to a lane waits for."""
        lanes = LANES if lane == "bulk" else LANES[:1]
        queues = (self._queues[name] for name in lanes)
        return sum(-(-queue.num_tokens // queue.max_batch_tokens) for queue in queues)

    def add(self, lane: Lane, texts: list[TextT]) -> None:
        """Put texts at a lane's end."""
        self._queues[lane].texts += texts
        self._queues[lane].num_tokens += sum(text.num_tokens for text in texts)

    def next_lane(self, prepared: Lane | None = None) -> Lane | None:
        """Tell which lane is next; None where nothing waits.

        Args:
            prepared: the lane of a batch that has been taken, but not run.
        """
        waiting = [lane for lane in LANES if self._queues[lane].texts or lane == prepared]
        if len(waiting) < len(LANES):
            return waiting[0] if waiting else None
        query, bulk = (self._queues[lane].device_seconds for lane in LANES)
        return "bulk" if bulk < self._bulk_share * (bulk + query) else "query"

    def charge(self, lane: Lane, seconds: float, prepared: Lane | None = None) -> None:
        """Account for a batch; only time for which the other lane waited counts."""
        [other] = [name for name in LANES if name != lane]
        if self._queues[other].texts or prepared == other:
            for queue in self._queues.values():
                queue.device_seconds *= SHARE_DECAY
            self._queues[lane].device_seconds += seconds

    def is_full(self, lane: Lane) -> bool:
        """Tell whether a lane holds a batch that could not grow."""
        queue = self._queues[lane]
        return queue.num_tokens >= queue.max_batch_tokens

    def limit(self, max_batch_tokens: int) -> None:
        """Keep every lane's batches to so many tokens, or to its own limit if that is lower."""
        for lane, queue in self._queues.items():
            queue.max_batch_tokens = min(self._max_tokens[lane], max_batch_tokens)

    def clear(self) -> list[TextT]:
        """Take all texts out."""
        texts = [text for queue in self._queues.values() for text in queue.texts]
        for queue in self._queues.values():
            queue.texts, queue.num_tokens = [], 0
        return texts

    def max_tokens_of_next(self, lane: Lane, parts: int = 1) -> int:
        """Bound the padded tokens of a lane's next batch.

        Args:
            lane: which.
            parts: into how many batches, for as many slots, what waits is to go.
        """
        queue = self._queues[lane]
        if parts == 1:
            return queue.max_batch_tokens
        share = math.ceil(queue.num_tokens / parts / (1 - MAX_PADDING_SHARE))
        return min(share, queue.max_batch_tokens)

    def take(
        self, lane: Lane, overhead_tokens: float, now: float, done_at: float, parts: int = 1
    ) -> list[TextT]:
        """Take a batch from a lane: the oldest text and those of its kind and of like length.

        Args:
            lane: which.
            overhead_tokens: padding that costs as much as a further batch.
            now: on the monotonic clock.
            done_at: when the batch is thought to be done; what nobody waits for until then is
                dropped. Where that is everything, the thought is put to the test instead.
            parts: see `max_tokens_of_next`.
        """
        queue = self._queues[lane]
        max_tokens = self.max_tokens_of_next(lane, parts)
        awaited = [text for text in queue.texts if not text.is_gone(now)]
        alive = [text for text in awaited if not text.is_gone(done_at)] or awaited
        alike = [text for text in alive if text.kind == alive[0].kind]
        batch = pick(alike[:WINDOW_TEXTS], max_tokens, overhead_tokens)
        if len(batch) < len(alike):
            batch = trim(batch, alive[0])
        chosen = set(map(id, batch))
        queue.texts = [text for text in alive if id(text) not in chosen]
        queue.num_tokens = sum(text.num_tokens for text in queue.texts)
        return batch


def pick(texts: list[TextT], max_batch_tokens: int, overhead_tokens: float) -> list[TextT]:
    """Choose the first text and neighbours in length, as long as padding is worth it.

    It is worth it while all of the batch's padding costs less than a further batch would, or is a
    small share.

    Args:
        texts: in the order of arrival.
        max_batch_tokens: the padded cost at the most; the first text is taken whatever its length.
        overhead_tokens: padding that costs as much as a further batch.

    Returns:
        The batch, by length.
    """
    if not texts:
        return []
    ordered = sorted(texts, key=lambda text: text.num_tokens)
    lengths = [text.num_tokens for text in ordered]
    start = next(index for index, text in enumerate(ordered) if text is texts[0])
    end, total = start + 1, lengths[start]  # the batch is ordered[start:end]
    while True:
        longest = lengths[end - 1]
        below = longest - lengths[start - 1] if start > 0 else None
        above = (lengths[end] - longest) * (end - start) if end < len(ordered) else None
        takes_below = below is not None and (above is None or below <= above)
        added = below if takes_below else above
        if added is None:
            return ordered[start:end]
        new_longest = longest if takes_below else lengths[end]
        new_total = total + (lengths[start - 1] if takes_below else lengths[end])
        padded = new_longest * (end - start + 1)
        padding = padded - new_total
        is_costly = padding > overhead_tokens and padding > MAX_PADDING_SHARE * padded
        if padded > max_batch_tokens or is_costly:
            return ordered[start:end]
        start, end = (start - 1, end) if takes_below else (start, end + 1)
        total = new_total


def trim(batch: list[TextT], oldest: TextT) -> list[TextT]:
    """Leave some for the next batch, so that the count is one of four in each octave.

    Devices have a graph or a kernel for each shape, or pad to one that they have; where enough
    texts wait, they need not.
    """
    count = round_down(len(batch))
    position = next(index for index, text in enumerate(batch) if text is oldest)
    start = min(position, len(batch) - count)
    return batch[start : start + count]


def round_down(count: int) -> int:
    """Round a number down to one of four in each octave.

    >>> [round_down(count) for count in (1, 7, 9, 19, 39, 64)]
    [1, 7, 8, 16, 32, 64]
    """
    step: int = max(1, 2 ** (count.bit_length() - 3))
    return count // step * step
