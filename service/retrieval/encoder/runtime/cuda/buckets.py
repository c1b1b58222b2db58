"""The few shapes that batches are padded to on a GPU, so that each can be prepared beforehand.

Pure arithmetic: knows nothing of tensors or devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

LENGTHS = (16, 32, 64, 128, 256)  # and the encoder's own limit


@dataclass(frozen=True, slots=True)
class Shape:
    """A padded batch: B rows of L tokens."""

    num_rows: int
    length: int

    @property
    def num_tokens(self) -> int:
        """Count the tokens, padding included."""
        return self.num_rows * self.length


def bucket_lengths(max_tokens: int) -> tuple[int, ...]:
    """List the lengths that texts are padded to, shortest first.

    >>> bucket_lengths(100)
    (16, 32, 64, 100)
    """
    return (*(length for length in LENGTHS if length < max_tokens), max_tokens)


def bucket_length(length: int, max_tokens: int) -> int:
    """Find the shortest length that holds a text.

    Raises:
        ValueError: the text is over the encoder's limit.
    """
    if length > max_tokens:
        raise ValueError(f"{length} tokens are over the encoder's limit of {max_tokens}")
    return next(bucket for bucket in bucket_lengths(max_tokens) if bucket >= length)


def max_rows(length: int, max_batch_tokens: int) -> int:
    """Find the largest power of two of rows within the budget; one row is always allowed."""
    return 1 << max(0, (max_batch_tokens // length).bit_length() - 1)


def pieces(
    num_rows: int, length: int, max_tokens: int, max_batch_tokens: int
) -> Iterator[tuple[slice, Shape]]:
    """Cut a batch into pieces that each fit a shape.

    A piece has more than half of its shape's rows, so that at most half of them are padding.

    Args:
        num_rows: texts of the batch.
        length: tokens of its longest text.
        max_tokens: the encoder's limit.
        max_batch_tokens: padded tokens of a shape at the most, but for a single row.

    Yields:
        The piece's rows and its shape.
    """
    bucket = bucket_length(length, max_tokens)
    limit = max_rows(bucket, max_batch_tokens)
    for start in range(0, num_rows, limit):
        stop = min(start + limit, num_rows)
        yield slice(start, stop), Shape(1 << (stop - start - 1).bit_length(), bucket)


def all_shapes(max_tokens: int, max_batch_tokens: int) -> list[Shape]:
    """List every shape that `pieces` can ask for, the one that needs most memory first."""
    shapes = [
        Shape(1 << power, length)
        for length in bucket_lengths(max_tokens)
        for power in range(max_rows(length, max_batch_tokens).bit_length())
    ]
    return sorted(shapes, key=lambda shape: (shape.num_tokens, shape.length), reverse=True)
