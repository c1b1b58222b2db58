"""The few shapes that batches are padded to on a GPU, so that each can be prepared in advance.

Knows nothing about tensors or devices.
"""

from collections.abc import Iterator

from service.retrieval.encoder.batches import MAX_TRIAL_TOKENS, Shape, max_rows

PASSAGE_TOKENS = 16_384
LENGTHS = tuple(16 << power for power in range(16))  # besides the encoder's own limit


def bucket_lengths(max_tokens: int) -> tuple[int, ...]:
    """Return the lengths that texts are padded to, shortest first.

    >>> bucket_lengths(100)
    (16, 32, 64, 100)
    """
    return (*(length for length in LENGTHS if length < max_tokens), max_tokens)


def bucket_length(length: int, max_tokens: int) -> int:
    """Return the shortest bucket that a text fits in.

    Raises:
        ValueError: the text is longer than the encoder's limit.
    """
    if length > max_tokens:
        raise ValueError(f"{length} tokens are over the encoder's limit of {max_tokens}")
    return next(bucket for bucket in bucket_lengths(max_tokens) if bucket >= length)


def passage_shape(length: int, max_tokens: int) -> Shape:
    """Return the shape in which passages of a length are embedded in bulk."""
    bucket = bucket_length(length, max_tokens)
    return Shape(max_rows(bucket, PASSAGE_TOKENS), bucket)


def pieces(
    num_rows: int, length: int, max_tokens: int, max_batch_tokens: int
) -> Iterator[tuple[slice, Shape]]:
    """Split a batch into pieces that each fit a shape.

    A piece fills more than half of its shape's rows: fewer than half are padding.

    Args:
        num_rows: texts of the batch.
        length: tokens of its longest text.
        max_tokens: the encoder's limit.
        max_batch_tokens: upper limit of a shape's padded tokens; a single row may exceed it.

    Yields:
        The piece's rows and its shape.
    """
    bucket = bucket_length(length, max_tokens)
    limit = max_rows(bucket, max_batch_tokens)
    for start in range(0, num_rows, limit):
        stop = min(start + limit, num_rows)
        yield slice(start, stop), Shape(1 << (stop - start - 1).bit_length(), bucket)


def shapes_to_prepare(
    max_tokens: int, max_batch_tokens: int, longest: int = MAX_TRIAL_TOKENS
) -> list[Shape]:
    """Return the shapes of texts up to `longest`, the one that needs most memory first."""
    shapes = [
        Shape(1 << power, length)
        for length in bucket_lengths(max_tokens)
        if length <= longest
        for power in range(max_rows(length, max_batch_tokens).bit_length())
    ]
    return sorted(shapes, key=lambda shape: (shape.num_tokens, shape.length), reverse=True)
