"""Which of the waiting texts make a batch with little padding."""

from typing import Protocol, TypeVar

MAX_PADDING_SHARE = 0.1


class WaitingText(Protocol):
    """A text that waits for a batch."""

    @property
    def num_tokens(self) -> int:
        """Return its length in tokens."""

    @property
    def kind(self) -> object:
        """Return its kind; a batch holds texts of one kind."""

    def is_gone(self, moment: float) -> bool:
        """Return whether no client will be waiting at a moment of the monotonic clock."""


TextT = TypeVar("TextT", bound=WaitingText)


def pick(texts: list[TextT], max_batch_tokens: int, overhead_tokens: float) -> list[TextT]:
    """Choose the first text and its neighbors in length while the padding costs little.

    Padding costs little while the batch's padding takes less time than another batch would, or is
    at most `MAX_PADDING_SHARE` of the batch.

    Args:
        texts: in the order of arrival.
        max_batch_tokens: padded tokens at most; the first text is taken whatever its length.
        overhead_tokens: padding tokens that take as long as another batch.

    Returns:
        The batch, ordered by length.
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
    """Shorten a batch to `round_down` of its size; the oldest text stays in it.

    A device has a graph or a kernel for some shapes and pads to them. Where more texts wait, a
    batch of one of those shapes needs no padding.
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
