"""The bi-encoder: texts in, unit-norm embeddings out. B texts, L tokens, D embedding_dim."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.errors import EncoderMismatchError, RetrievalError

Role = Literal["query", "passage"]
Embeddings = NDArray[np.float32]

# Of the sizes tried on two CPU cores, larger batches were no faster and held more memory.
MAX_BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text as the transformer reads it, prompt and special tokens included.

    `side` tells which of the encoder's sides embeds it, `query` where there is but one.
    """

    token_ids: list[int]
    is_truncated: bool
    side: Role = "query"


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Texts of one side, padded on the right; the mask is 1 for a token, both [B, L]."""

    token_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    side: Role = "query"


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Embeddings [B, D] and what they cost."""

    embeddings: Embeddings
    num_tokens: int
    num_truncated: int


class Encoder:
    """A transformer with its tokenizer and prompts, on one device; where it has two sides, two.

    What an encoder says of itself (`runtime`, `fingerprint`, ...) it says of its query side; its
    passage side is an encoder of its own. `tokenize` and `pad` may be called from any thread;
    `embed` from so many at a time as there are slots.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer,
        *,
        name: str,
        fingerprint: str,
        passage_fingerprint: str,
        pooling: str,
        prompts: dict[str, str],
        max_tokens: int,
        pad_id: int,
        passage_side: "Encoder | None" = None,
    ) -> None:
        """Join a runtime and a tokenizer, both made by `load_encoder`.

        Args:
            runtime: computes.
            tokenizer: is taken over.
            name: for people.
            fingerprint: of the query side.
            passage_fingerprint: of the passage encoder whose indexes this one searches.
            pooling: `mean`, `cls` or `lasttoken`.
            prompts: by role.
            max_tokens: texts are cut here.
            pad_id: the token of padding.
            passage_side: encodes the passages, where that is not this one.
        """
        self.name = name
        self.fingerprint = fingerprint
        self.passage_fingerprint = passage_fingerprint
        self.pooling = pooling
        self.prompts = prompts
        self.max_tokens = max_tokens
        self.runtime = runtime
        self.device = runtime.device
        self.embedding_dim = runtime.embedding_dim
        self._passage_side = passage_side
        self._pad_id = pad_id
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)

    @property
    def has_two_sides(self) -> bool:
        """Tell whether passages have a transformer of their own."""
        return self._passage_side is not None

    @property
    def encodes_passages(self) -> bool:
        """Tell whether there is a passage side: a checkpoint may hold the query side alone."""
        return self.has_two_sides or self.passage_fingerprint == self.fingerprint

    @property
    def num_slots(self) -> int:
        """Tell how many threads may embed at a time, whichever side."""
        runtimes = [self.runtime, *([self._passage_side.runtime] if self._passage_side else [])]
        return min(runtime.num_slots for runtime in runtimes)

    def side(self, role: Role) -> "Encoder":
        """Choose the side for a role: this one where there is no other.

        Raises:
            EncoderMismatchError: passages, of which this checkpoint has no encoder.
        """
        if role == "query":
            return self
        if not self.encodes_passages:
            raise EncoderMismatchError(
                f"the encoder {self.name} encodes queries alone: passages belong to the encoder "
                f"of fingerprint {self.passage_fingerprint[:16]}, which it was trained for; "
                "embed them with that one"
            )
        return self._passage_side or self

    def with_passage_side(self, passage: "Encoder") -> "Encoder":
        """Add the passage encoder that a query encoder was trained for.

        Raises:
            EncoderMismatchError: it was trained for another one.
        """
        if passage.fingerprint != self.passage_fingerprint:
            raise EncoderMismatchError(
                f"the encoder {self.name} was trained for passages of the fingerprint "
                f"{self.passage_fingerprint[:16]}, {passage.name} has {passage.fingerprint[:16]}"
            )
        joined = copy.copy(self)
        joined._passage_side = passage
        return joined

    def warm_up(self, max_batch_tokens: int) -> None:
        """Make batches of up to so many padded tokens ready to run at once, on both sides."""
        self.runtime.warm_up(max_batch_tokens)
        if self._passage_side is not None:
            self._passage_side.runtime.warm_up(max_batch_tokens)

    def tokenize(self, texts: Sequence[str], role: Role) -> list[TokenizedText]:
        """Put the role's prompt before each text and cut it at the encoder's limit.

        Raises:
            RetrievalError: a text is no valid Unicode (half a surrogate pair), or the role has no
                encoder here.
        """
        side = self.side(role)
        return side._tokenize(texts, role, role if side is not self else "query")

    def _tokenize(self, texts: Sequence[str], role: Role, side: Role) -> list[TokenizedText]:
        # Canonically equivalent texts are one text (UAX #15), but not to every tokenizer: XLM-R's
        # composes neither Hangul's letters nor a Vietnamese vowel with two marks.
        prompted = [self.prompts[role] + normalize("NFC", text) for text in texts]
        try:
            # For one text the library's threads cost more than they save.
            encodings = (
                [self.tokenizer.encode(prompted[0])]
                if len(prompted) == 1
                else self.tokenizer.encode_batch_fast(prompted)
            )
        except (UnicodeEncodeError, TypeError):  # either, by the version of the library
            raise RetrievalError("a text holds half a surrogate pair (U+D800-U+DFFF)") from None
        return [
            TokenizedText(encoding.ids, is_truncated=bool(encoding.overflowing), side=side)
            for encoding in encodings
        ]

    def encode_tokenized(
        self,
        tokenized: Sequence[TokenizedText],
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        on_batch: Callable[[int], None] = lambda num_texts: None,
    ) -> Embeddings:
        """Embed tokenized texts in batches of like length.

        Args:
            tokenized: B texts.
            max_batch_tokens: a batch's padded cost (longest text x texts) at the most; a longer
                text is a batch of its own.
            on_batch: is told how many texts each finished batch held.

        Returns:
            [B, D] unit-norm, in the order given.
        """
        embeddings = np.empty((len(tokenized), self.embedding_dim), dtype=np.float32)
        lengths = [len(text.token_ids) for text in tokenized]
        for batch in token_batches(lengths, max_batch_tokens):
            padded = self.pad([tokenized[position] for position in batch])
            embeddings[batch] = self.embed(padded).cpu().numpy()
            on_batch(len(batch))
        return embeddings

    def encode(self, texts: Sequence[str], role: Role) -> EncodedTexts:
        """Tokenize and embed texts of one role."""
        tokenized = self.tokenize(texts, role)
        return EncodedTexts(
            self.encode_tokenized(tokenized),
            num_tokens=sum(len(text.token_ids) for text in tokenized),
            num_truncated=sum(text.is_truncated for text in tokenized),
        )

    def pad(self, tokenized: Sequence[TokenizedText], length: int = 0) -> PaddedBatch:
        """Lay texts of one side beside each other, padded on the right, at least to `length`."""
        [side] = {text.side for text in tokenized}
        length = max(length, *(len(text.token_ids) for text in tokenized))
        pad_id = self.side(side)._pad_id
        token_ids = np.full((len(tokenized), length), pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(tokenized), length), dtype=np.int64)
        for row, text in enumerate(tokenized):
            token_ids[row, : len(text.token_ids)] = text.token_ids
            attention_mask[row, : len(text.token_ids)] = 1
        return PaddedBatch(token_ids, attention_mask, side)

    def embed(self, batch: PaddedBatch) -> Tensor:
        """Embed one batch, [B, L] to [B, D]; the result stays on the device."""
        runtime = self.side(batch.side).runtime
        return runtime.embed(batch.token_ids, batch.attention_mask)


def token_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Group texts of like length so that little is padding.

    Args:
        lengths: tokens of each text.
        max_batch_tokens: a batch's padded cost (longest x texts) at the most.

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
