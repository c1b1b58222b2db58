"""Tokenized texts and the padded batches that they are embedded in. B texts, L tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.retrieval.encoder.unigram import UnigramTokenizer

Role = Literal["query", "passage"]

# The longest text that a probe, a warm-up or a prepared graph runs. The cost of attention grows
# with the square of the length: a start must not take a minute for a text that may never come.
MAX_TRIAL_TOKENS = 512
# Of the sizes tried on two CPU cores, larger batches were no faster and held more memory.
MAX_BATCH_TOKENS = 2048
UNPOOLED = 2  # the mask's value of a token that is attended to but not pooled


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a padded batch: B rows of L tokens."""

    num_rows: int
    length: int

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens, padding included."""
        return self.num_rows * self.length


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text's token ids, with the tokens of the prompt and the special tokens.

    `side` is the encoder's side that embeds the text, `query` if there is only one. The first
    `num_unpooled` tokens and the last `num_unpooled_after` are attended to and not pooled: those of
    a prompt where the head leaves them out, and those around a chunk that is embedded late.
    """

    token_ids: list[int]
    is_truncated: bool
    side: Role = "query"
    num_unpooled: int = 0
    num_unpooled_after: int = 0


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Texts of one side, padded on the right; both arrays [B, L].

    The mask is 0 for padding, `UNPOOLED` for a token that the head does not pool, else 1.
    """

    token_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    side: Role = "query"


def max_rows(length: int, max_batch_tokens: int) -> int:
    """Return the largest power of two of rows within the budget, at least one."""
    return 1 << max(0, (max_batch_tokens // length).bit_length() - 1)


def num_prompt_tokens(tokenizer: Tokenizer | UnigramTokenizer, prompt: str) -> int:
    """Return the number of tokens that sentence-transformers does not pool for a prompt.

    They are those of the prompt alone, without a special token at their end.
    """
    ids = tokenizer.encode(prompt).ids if prompt else []
    added = tokenizer.get_added_tokens_decoder()
    has_end = bool(ids) and ids[-1] in added and added[ids[-1]].special
    return len(ids) - has_end


def pad_batch(
    tokenized: Sequence[TokenizedText], side: Role, pad_id: int, length: int = 0
) -> PaddedBatch:
    """Pad texts on the right to the longest text's length, at least to `length`.

    >>> pad_batch([TokenizedText([5, 6], False), TokenizedText([7], False)], "query", 1).token_ids
    array([[5, 6],
           [7, 1]])
    """
    length = max(length, *(len(text.token_ids) for text in tokenized))
    token_ids = np.full((len(tokenized), length), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(tokenized), length), dtype=np.int64)
    for row, text in enumerate(tokenized):
        token_ids[row, : len(text.token_ids)] = text.token_ids
        attention_mask[row, : len(text.token_ids)] = 1
        attention_mask[row, : text.num_unpooled] = UNPOOLED
        if text.num_unpooled_after:
            end = len(text.token_ids)
            attention_mask[row, end - text.num_unpooled_after : end] = UNPOOLED
    return PaddedBatch(token_ids, attention_mask, side)


def are_parts(token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> bool:
    """Return whether the rows, two or more, are parts of one text: one pass computes its tokens.

    >>> are_parts(np.array([[5, 6], [5, 6]]), np.array([[1, UNPOOLED], [UNPOOLED, 1]]))
    True
    """
    if len(token_ids) == 1 or not (attention_mask == UNPOOLED).any():
        return False
    return bool((token_ids[1:] == token_ids[0]).all())


def token_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Group texts of similar length, which keeps padding low.

    Args:
        lengths: tokens of each text.
        max_batch_tokens: upper limit of a batch's padded tokens (longest text x texts); a longer
            text is a batch of its own.

    Returns:
        Positions, the longest texts first; each position once.

    >>> token_batches([3, 9, 4, 10], max_batch_tokens=20)
    [[3, 1], [2, 0]]
    """
    batches: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if batches and longest * (len(batches[-1]) + 1) <= max_batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
            longest = lengths[position]
    return batches
