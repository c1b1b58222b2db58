"""Bulk encoding of passages, reproducible to the bit: an embedding depends on its text alone.

A matrix product may round differently with the shape of a batch. Here a batch holds texts of one
length, so that nothing is padded and a passage has the same bits whichever passages are encoded
with it: an updated index equals one built from scratch. A GPU chooses its kernels by shape: there
texts are padded to the few lengths of `buckets`, and all batches of a length have equal size.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.retrieval.encoder.batches import MAX_BATCH_TOKENS, TokenizedText
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.parts import EncodedText, tokenize_passages
from service.retrieval.encoder.runtime.cuda.buckets import bucket_length, max_rows
from service.retrieval.unit_vectors import are_unit

GPU_BATCH_TOKENS = 16_384


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
        return cls(encoder.passage_fingerprint, passage.max_tokens, passage.runtime.name)

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
        encoder: its passage side embeds, in this thread.
        texts: N passages as the encoder reads them; parts of one text are embedded in one pass.
        on_batch: called with the number of texts after each batch.
    """
    tokenized = tokenize_passages(encoder, texts)
    embeddings = np.empty((len(texts), encoder.embedding_dim), dtype=np.float32)
    is_gpu = encoder.device.type == "cuda"
    lengths = [len(text.token_ids) for text in tokenized]
    if is_gpu:
        lengths = [bucket_length(length, encoder.side("passage").max_tokens) for length in lengths]
    budget = GPU_BATCH_TOKENS if is_gpu else MAX_BATCH_TOKENS
    for length, batch in _batches(texts, tokenized, lengths, budget):
        # A GPU runs one shape a length: a last, smaller batch repeats its last text.
        filling = batch[-1:] * (max_rows(length, budget) - len(batch)) if is_gpu else []
        if len(batch) == 1 and not isinstance(texts[batch[0]], str):
            filling = filling or batch  # a part has the same bits alone
        padded = encoder.pad([tokenized[position] for position in batch + filling], length)
        embeddings[batch] = encoder.embed(padded)[: len(batch)].cpu().numpy()
        on_batch(len(batch))
    return EncodedPassages(embeddings, np.array([text.is_truncated for text in tokenized], bool))


def _batches(
    texts: Sequence[EncodedText],
    tokenized: Sequence[TokenizedText],
    lengths: Sequence[int],
    max_batch_tokens: int,
) -> Iterator[tuple[int, list[int]]]:
    """Yield length and positions of each batch: of texts of one length, or of parts of one text."""
    parts = defaultdict(list)
    wholes = []
    for position, text in enumerate(texts):
        if isinstance(text, str):
            wholes.append(position)
        else:
            parts[tuple(tokenized[position].token_ids)].append(position)
    for length, batch in equal_length_batches([lengths[each] for each in wholes], max_batch_tokens):
        yield length, [wholes[each] for each in batch]
    for batch in parts.values():
        yield lengths[batch[0]], batch


def equal_length_batches(
    lengths: Sequence[int], max_batch_tokens: int
) -> list[tuple[int, list[int]]]:
    """Group texts of equal length.

    Args:
        lengths: tokens of each text.
        max_batch_tokens: upper limit of a batch's tokens; a longer text is a batch of its own.

    Returns:
        Length and positions of each batch, the longest texts first; each position once. The size
        of a batch is a power of two, except for the last of its length.

    >>> equal_length_batches([16, 32, 16, 16], max_batch_tokens=32)
    [(32, [1]), (16, [0, 2]), (16, [3])]
    """
    positions = defaultdict(list)
    for position, length in enumerate(lengths):
        positions[length].append(position)
    batches = []
    for length, found in sorted(positions.items(), reverse=True):
        size = max_rows(length, max_batch_tokens)
        batches += [(length, found[start : start + size]) for start in range(0, len(found), size)]
    return batches
