"""How long documents are split: settings, and the ids of chunks."""

from dataclasses import dataclass

from service.retrieval.errors import RetrievalError

# By `python -m tests.bench.chunks`, on articles of XQuAD: larger chunks find less.
DEFAULT_TOKENS = 80
MIN_TOKENS = 16
# Joins a document's id and the number of a chunk; the character after it in the order of ids.
SEPARATOR, AFTER_SEPARATOR = "#", "$"


@dataclass(frozen=True)
class Chunking:
    """How long documents are split: those over `longest` tokens, in chunks of up to `tokens`.

    `overlap` tokens at most of a chunk repeat the end of the one before. With 0 `tokens` nothing is
    split: the encoder cuts what is over its limit. With a `window` of tokens, chunks are embedded
    late: the encoder reads a window of neighbors at once, and a chunk's vector is pooled from its
    own tokens. With 0 it reads each chunk alone.
    """

    tokens: int
    overlap: int
    longest: int
    window: int = 0

    @classmethod
    def none(cls, limit: int) -> "Chunking":
        """Return that no document is split: an encoder that reads `limit` tokens cuts it."""
        return cls(0, 0, limit)

    @classmethod
    def of(
        cls,
        limit: int,
        tokens: int | None = None,
        overlap: int | None = None,
        is_late: bool | None = None,
    ) -> "Chunking":
        """Return how documents are split for an encoder.

        Args:
            limit: tokens that the encoder reads.
            tokens: of a chunk; documents that are longer are split. By default only those over the
                limit are split; 0 splits none.
            overlap: by default none.
            is_late: whether the encoder reads windows of as many tokens as it can; by default it
                reads each chunk alone.

        Raises:
            RetrievalError: the numbers contradict each other.
        """
        if tokens == 0 and is_late:
            raise RetrievalError(
                "--late-chunking embeds chunks, and --no-chunk makes none: give one of the two"
            )
        if tokens == 0:
            return cls.none(limit)
        size = min(DEFAULT_TOKENS, limit) if tokens is None else tokens
        if not min(MIN_TOKENS, limit) <= size <= limit:
            raise RetrievalError(
                f"--chunk-tokens {size} is not between {MIN_TOKENS} and {limit}, which the encoder "
                "reads: give another number"
            )
        if overlap and overlap > size // 2:
            raise RetrievalError(
                f"--chunk-overlap {overlap} is over half of a chunk of {size} tokens: give at most "
                f"{size // 2}"
            )
        longest = limit if tokens is None else tokens
        return cls(size, overlap or 0, longest, limit if is_late else 0)
