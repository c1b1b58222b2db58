"""Bulk encoding of passages, reproducible to the bit: an embedding depends on its text alone.

A matrix product may round differently with the shape of a batch. Where it does, a runtime names one
shape for each length (`Runtime.passage_shape`): texts are padded to it, and rows that are missing
are filled. Elsewhere a batch holds texts of one length, so that nothing is padded, and only one of
few tokens is filled. A passage has the same bits whichever passages are encoded with it: an updated
index equals one built from scratch.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.retrieval.encoder.batches import MAX_BATCH_TOKENS, Shape, TokenizedText, max_rows
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.parts import EncodedText, tokenize_passages
from service.retrieval.encoder.runtime.cpu import FIXED
from service.retrieval.encoder.runtime.cuda.buckets import passage_shape
from service.retrieval.hardware import available_cores
from service.retrieval.unit_vectors import are_unit

# In fp32 a product of few rows for each core is computed by other kernels, which round otherwise:
# torch on two cores, up to 11 tokens.
MIN_TOKENS_A_CORE = 32


@dataclass(frozen=True)
class EncoderIdentity:
    """All that decides an embedding besides the text: equal identities give equal bits.

    This holds on one kind of machine: another processor may round the last bit differently.
    """

    fingerprint: str
    max_tokens: int
    runtime: str

    @classmethod
    def of(cls, encoder: Encoder) -> "EncoderIdentity":
        """Return the identity of an encoder's passage side.

        Raises:
            EncoderMismatchError: the encoder has no passage side.
        """
        passage = encoder.side("passage")
        runtime, limit = passage.runtime, passage.max_tokens
        is_fixed = runtime.device.type == "cpu" and runtime.passage_shape(limit)
        name = runtime.name + FIXED if is_fixed else runtime.name  # a GPU's shapes were always
        return cls(encoder.passage_fingerprint, limit, name)

    def __str__(self) -> str:
        """Return the identity as messages name it."""
        return f"{self.fingerprint[:16]} by {self.runtime}, {self.max_tokens} tokens at the most"


@dataclass(frozen=True)
class EncodedPassages:
    """Embeddings [N, D], and which texts were truncated [N]."""

    embeddings: Embeddings
    is_truncated: NDArray[np.bool_]

    @property
    def is_valid(self) -> NDArray[np.bool_]:
        """Compute which embeddings are unit vectors, [N]; no other may enter an index."""
        return are_unit(self.embeddings)

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.is_truncated)

    def __getitem__(self, part: slice | NDArray[np.bool_]) -> "EncodedPassages":
        """Return some of the passages."""
        return EncodedPassages(self.embeddings[part], self.is_truncated[part])

    def __add__(self, other: "EncodedPassages") -> "EncodedPassages":
        """Return the concatenation of both."""
        return EncodedPassages(
            np.concatenate([self.embeddings, other.embeddings]),
            np.concatenate([self.is_truncated, other.is_truncated]),
        )


def digest_of(text: str) -> bytes:
    """Hash a passage's prepared text to 16 bytes."""
    return hashlib.sha256(text.encode()).digest()[:16]


def digest_of_part(before: str, text: str, after: str) -> bytes:
    """Hash a part of a text, prepared, to 16 bytes; no whole text has the same bytes."""
    parts = (each.encode() + b"\xff" for each in (before, text, after))  # which no UTF-8 holds
    return hashlib.sha256(b"".join(parts)).digest()[:16]


def encode_passages(
    encoder: Encoder,
    texts: Sequence[EncodedText],
    on_batch: Callable[[int], None] = lambda num_texts: None,
) -> EncodedPassages:
    """Embed passages so that an embedding does not depend on the other texts.

    An embedding that is not a unit vector is returned, too: see `EncodedPassages.is_valid`.

    Args:
        encoder: its passage side embeds, in as many threads as its runtime has slots.
        texts: N passages as the encoder reads them; parts of one text are embedded in one pass.
        on_batch: called with the number of texts after each batch.
    """
    tokenized = tokenize_passages(encoder, texts)
    side = encoder.side("passage")
    embeddings = np.empty((len(texts), encoder.embedding_dim), dtype=np.float32)
    least_tokens = MIN_TOKENS_A_CORE * available_cores()
    fixed = [_fixed_shape(side, len(text.token_ids)) for text in tokenized]

    def embed(batch: list[int]) -> int:
        rows, shape = [tokenized[position] for position in batch], fixed[batch[0]]
        if not isinstance(texts[batch[0]], str):
            # A part has the same bits alone; equal texts are embedded in one pass.
            rows += rows[-1:] * max(len(rows) == 1, shape.num_rows - len(rows) if shape else 0)
        else:
            num_rows = shape.num_rows if shape else -(-least_tokens // len(rows[0].token_ids))
            rows += [_filler(rows[0])] * (num_rows - len(rows))
        padded = encoder.pad(rows, shape.length if shape else 0)
        embeddings[batch] = encoder.embed(padded)[: len(batch)].cpu().numpy()
        return len(batch)

    batches = _batches(texts, tokenized, fixed)
    if (num_slots := side.runtime.num_slots) == 1:
        for batch in batches:  # torch keeps memory and threads for each thread that calls it
            on_batch(embed(batch))
    else:
        with ThreadPoolExecutor(num_slots) as threads:
            try:
                for num_texts in threads.map(embed, batches):
                    on_batch(num_texts)
            finally:
                threads.shutdown(cancel_futures=True)
    return EncodedPassages(embeddings, np.array([text.is_truncated for text in tokenized], bool))


def _fixed_shape(side: Encoder, length: int) -> Shape | None:
    """Return the only shape of passages of a length, if they have one."""
    if side.device.type == "cuda":
        return passage_shape(length, side.max_tokens)
    return side.runtime.passage_shape(length)


def _filler(text: TokenizedText) -> TokenizedText:
    """Return a text of equal length and other tokens, in the place of one that is missing.

    Rows of equal tokens would be parts of one text, of which one pass is computed.
    """
    return replace(text, token_ids=text.token_ids[::-1], num_unpooled=0, num_unpooled_after=0)


def _batches(
    texts: Sequence[EncodedText],
    tokenized: Sequence[TokenizedText],
    fixed: Sequence[Shape | None],
) -> list[list[int]]:
    """Return the positions of each batch: of texts of one shape, or of parts of one text."""
    parts = defaultdict(list)
    wholes = []
    for position, text in enumerate(texts):
        if isinstance(text, str):
            wholes.append(position)
        else:
            parts[tuple(tokenized[position].token_ids)].append(position)
    lengths = (len(tokenized[each].token_ids) for each in wholes)
    shapes = [
        fixed[each] or Shape(max_rows(length, MAX_BATCH_TOKENS), length)
        for each, length in zip(wholes, lengths, strict=True)
    ]
    batches = [[wholes[each] for each in batch] for batch in batches_of_one_shape(shapes)]
    return [*batches, *parts.values()]


def batches_of_one_shape(shapes: Sequence[Shape]) -> list[list[int]]:
    """Group texts of equal shape.

    Args:
        shapes: each text's, with the most rows of a batch.

    Returns:
        Positions of each batch, the longest texts first; each position once.

    >>> short, long = Shape(2, 16), Shape(1, 32)
    >>> batches_of_one_shape([short, long, short, short])
    [[1], [0, 2], [3]]
    """
    positions = defaultdict(list)
    for position, shape in enumerate(shapes):
        positions[shape].append(position)
    longest_first = sorted(positions.items(), key=lambda item: item[0].length, reverse=True)
    return [
        found[start : start + shape.num_rows]
        for shape, found in longest_first
        for start in range(0, len(found), shape.num_rows)
    ]
