"""A lane of the queue: the texts that are next, and the rest of requests larger than a batch."""

from collections import deque
from typing import Generic

from service.batching.packing import TextT

# Batches that a lane holds ready: one to run, and one to prepare meanwhile.
READY_BATCHES = 2


class _Rest(Generic[TextT]):
    """The texts of one request that are not in the lane yet; the longest, then oldest, is next."""

    def __init__(self, texts: list[TextT]) -> None:
        # Texts of like length lie together, so that a slice has little padding.
        self._texts = sorted(texts, key=lambda text: -text.num_tokens)[::-1]
        self.num_tokens = sum(text.num_tokens for text in texts)

    def is_gone(self, moment: float) -> bool:
        return not self._texts or self._texts[-1].is_gone(moment)

    def take(self, max_tokens: int) -> list[TextT]:
        """Remove and return the next slice; it has one text at least."""
        taken: list[TextT] = []
        num_tokens = 0
        while self._texts and (not taken or num_tokens + self._texts[-1].num_tokens <= max_tokens):
            taken.append(self._texts.pop())
            num_tokens += taken[-1].num_tokens
        self.num_tokens -= num_tokens
        return taken

    def drain(self) -> list[TextT]:
        """Remove and return all texts."""
        return self.take(self.num_tokens)


class LaneQueue(Generic[TextT]):
    """Texts of one lane in their order.

    A request larger than a batch enters in slices of a batch: the first at once, the others in turn
    with those of other requests, as the device takes what is ready. So a small request waits for
    one slice of each large one at most. Not thread-safe.
    """

    def __init__(self, max_batch_tokens: int) -> None:
        """Start empty."""
        self.texts: list[TextT] = []
        self.num_tokens = 0  # of `texts`
        self.max_batch_tokens = max_batch_tokens
        self.device_seconds = 0.0
        self._rests: deque[_Rest[TextT]] = deque()

    @property
    def num_pending_tokens(self) -> int:
        """Return the tokens of all texts, those of the rests included."""
        return self.num_tokens + sum(rest.num_tokens for rest in self._rests)

    def num_tokens_before(self, num_tokens: int, now: float) -> int:
        """Return the tokens that run before the last text of a new request of `num_tokens`.

        The rests of other requests take turns with the request's own, slice by slice.
        """
        own_rest = num_tokens - self.max_batch_tokens
        if own_rest <= 0:
            return self.num_tokens
        rests = [rest for rest in self._rests if not rest.is_gone(now)]
        return self.num_tokens + sum(min(rest.num_tokens, own_rest) for rest in rests)

    def add(self, texts: list[TextT]) -> None:
        """Add the texts of one request: all that fit in a batch or are needed; else their rest."""
        if sum(text.num_tokens for text in texts) <= self.max_batch_tokens:
            self._append(texts)
            return
        rest = _Rest(texts)
        self._append(rest.take(self.max_batch_tokens))
        while rest.num_tokens and self._has_room:
            self._append(rest.take(self.max_batch_tokens))
        if rest.num_tokens:
            self._rests.append(rest)

    def keep(self, texts: list[TextT], now: float) -> None:
        """Replace the texts by those that are left of them, and add slices of the rests in turn."""
        self.texts, self.num_tokens = [], 0
        self._append(texts)
        while self._rests and self._has_room:
            rest = self._rests.popleft()
            if rest.is_gone(now):
                continue
            self._append(rest.take(self.max_batch_tokens))
            if rest.num_tokens:
                self._rests.append(rest)

    def clear(self) -> list[TextT]:
        """Remove and return all texts."""
        texts = self.texts + [text for rest in self._rests for text in rest.drain()]
        self.texts, self.num_tokens = [], 0
        self._rests.clear()
        return texts

    @property
    def _has_room(self) -> bool:
        return self.num_tokens < READY_BATCHES * self.max_batch_tokens

    def _append(self, texts: list[TextT]) -> None:
        self.texts += texts
        self.num_tokens += sum(text.num_tokens for text in texts)
