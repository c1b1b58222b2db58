"""The bi-encoder: texts in, unit-norm embeddings out. B texts, L tokens, D embedding_dim."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from service.retrieval.checkpoint.checkpoint import Checkpoint
from service.retrieval.checkpoint.modules.pooling import Pooling
from service.retrieval.encoder.batches import (
    MAX_BATCH_TOKENS,
    PaddedBatch,
    Role,
    TokenizedText,
    num_prompt_tokens,
    pad_batch,
    token_batches,
)
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.encoder.unigram import UnigramTokenizer
from service.retrieval.errors import EmbeddingError, EncoderMismatchError, RetrievalError
from service.retrieval.text import TextPreparation
from service.retrieval.unit_vectors import are_unit

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Embeddings [B, D], with the number of tokens and of truncated texts."""

    embeddings: Embeddings
    num_tokens: int
    num_truncated: int


class Encoder:
    """A transformer with its tokenizer and prompts on one device, for each of one or two sides.

    The attributes (`runtime`, `fingerprint`, ...) describe the query side; a passage side of its
    own is a further `Encoder`. `tokenize` and `pad` may be called from any thread; `embed` may
    run in at most `num_slots` threads at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer | UnigramTokenizer,
        checkpoint: Checkpoint,
        *,
        fingerprint: str,
        pooling: Pooling,
        max_tokens: int,
        pad_id: int,
        passage_side: "Encoder | None" = None,
    ) -> None:
        """Join a runtime and a tokenizer, both made by `load_encoder`.

        Args:
            runtime: computes the embeddings.
            tokenizer: truncates at `max_tokens` and does not pad.
            checkpoint: has the encoder's name, its prompts and the fingerprint of its passages.
            fingerprint: the query side's fingerprint.
            pooling: of the token embeddings.
            max_tokens: length at which texts are truncated.
            pad_id: id of the padding token.
            passage_side: encodes the passages; None if this encoder does.
        """
        self.name = checkpoint.name
        self.fingerprint = fingerprint
        self.passage_fingerprint = checkpoint.passage_fingerprint
        self.checkpoint = checkpoint
        self.pooling = pooling
        self.own_prompts = checkpoint.passage.prompts  # those that the folder states
        self.prompts_in_force = checkpoint.prompts
        self.prompts = checkpoint.prompts.texts
        self.max_tokens = max_tokens
        self.runtime = runtime
        self.device = runtime.device
        self.embedding_dim = runtime.embedding_dim
        self._passage_side = passage_side
        self._encodes_passages = checkpoint.trained_for is None
        self._pad_id = pad_id
        self.tokenizer = tokenizer
        self.prepare = TextPreparation(tokenizer)

    @property
    def public_name(self) -> str:
        """Return the name, of a path its last part: a path is named to the operator alone."""
        return self.name.rpartition("/")[2] if self.name.startswith("/") else self.name

    @property
    def has_two_sides(self) -> bool:
        """Return whether passages have a transformer of their own."""
        return self._passage_side is not None

    @property
    def encodes_passages(self) -> bool:
        """Return whether there is a passage side: a checkpoint may hold the query side alone."""
        return self.has_two_sides or self._encodes_passages

    @property
    def num_slots(self) -> int:
        """Return the number of threads that may run `embed` at once, on either side."""
        runtimes = [self.runtime, *([self._passage_side.runtime] if self._passage_side else [])]
        return min(runtime.num_slots for runtime in runtimes)

    def side(self, role: Role) -> "Encoder":
        """Return the side that encodes a role: this encoder if it has only one side.

        Raises:
            EncoderMismatchError: the role is `passage`, and the checkpoint has no passage side.
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
        """Return a copy with the passage encoder that this query encoder was trained for.

        Raises:
            EncoderMismatchError: this encoder was trained for another passage encoder.
        """
        found = passage.passage_fingerprint
        if found != self.passage_fingerprint:
            raise EncoderMismatchError(
                f"the encoder {self.name} was trained for passages of the fingerprint "
                f"{self.passage_fingerprint[:16]}, {passage.name} has {found[:16]}"
            )
        joined = copy.copy(self)
        joined._passage_side = passage.side("passage")
        return joined

    def with_runtimes(self, wrap: "Callable[[Runtime, Role], Runtime]") -> "Encoder":
        """Return a copy whose sides compute by other runtimes, made of their own."""
        copied = copy.copy(self)
        copied.runtime = wrap(self.runtime, "query")
        if self._passage_side is not None:
            copied._passage_side = copy.copy(self._passage_side)
            copied._passage_side.runtime = wrap(self._passage_side.runtime, "passage")
        return copied

    def warm_up(self, max_batch_tokens: int) -> None:
        """Prepare both sides for batches of up to `max_batch_tokens` padded tokens."""
        self.runtime.warm_up(max_batch_tokens)
        if self._passage_side is not None:
            self._passage_side.runtime.warm_up(max_batch_tokens)

    def tokenize(self, texts: Sequence[str], role: Role) -> list[TokenizedText]:
        """Tokenize texts with the role's prompt before each, truncated at `max_tokens`.

        Raises:
            RetrievalError: a text is not valid Unicode (half a surrogate pair).
            EncoderMismatchError: the role is `passage`, and the checkpoint has no passage side.
        """
        side = self.side(role)
        return side._tokenize(texts, role, role if side is not self else "query")

    def _tokenize(self, texts: Sequence[str], role: Role, side: Role) -> list[TokenizedText]:
        try:
            prompted = [self.prompts[role] + self.prepare(text) for text in texts]
            # For one text the library's threads cost more than they save.
            encodings = (
                [self.tokenizer.encode(prompted[0])]
                if len(prompted) == 1
                else self.tokenizer.encode_batch_fast(prompted)
            )
        except (UnicodeEncodeError, TypeError):  # depends on the library's version
            raise RetrievalError("a text holds half a surrogate pair (U+D800-U+DFFF)") from None
        is_pooled = self.pooling.include_prompt
        num_unpooled = 0 if is_pooled else num_prompt_tokens(self.tokenizer, self.prompts[role])
        return [
            TokenizedText(encoding.ids, bool(encoding.overflowing), side, num_unpooled)
            for encoding in encodings
        ]

    def count_passage_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of passages as the encoder would read them if it had no limit."""
        side = self.side("passage")
        prompted = [side.prompts["passage"] + side.prepare(text) for text in texts]
        num_special = side.tokenizer.num_special_tokens_to_add(is_pair=False)
        return [
            len(encoding.ids) + sum(len(more.ids) - num_special for more in encoding.overflowing)
            for encoding in side.tokenizer.encode_batch_fast(prompted)
        ]

    def encode_tokenized(
        self,
        tokenized: Sequence[TokenizedText],
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        on_batch: Callable[[int], None] = lambda num_texts: None,
    ) -> Embeddings:
        """Embed tokenized texts in batches of similar length.

        Args:
            tokenized: B texts.
            max_batch_tokens: as for `token_batches`.
            on_batch: called with the number of texts after each batch.

        Returns:
            [B, D] unit-norm, in the order of `tokenized`.

        Raises:
            EmbeddingError: a text of the batch has no unit vector.
        """
        embeddings = np.empty((len(tokenized), self.embedding_dim), dtype=np.float32)
        lengths = [len(text.token_ids) for text in tokenized]
        for batch in token_batches(lengths, max_batch_tokens):
            padded = self.pad([tokenized[position] for position in batch])
            embeddings[batch] = found = self.embed(padded).cpu().numpy()
            if not (is_valid := are_unit(found)).all():
                raise EmbeddingError(self.name, sorted(np.array(batch)[~is_valid].tolist()))
            on_batch(len(batch))
        return embeddings

    def encode(self, texts: Sequence[str], role: Role) -> EncodedTexts:
        """Tokenize and embed texts of one role; errors as for both."""
        tokenized = self.tokenize(texts, role)
        return EncodedTexts(
            self.encode_tokenized(tokenized),
            num_tokens=sum(len(text.token_ids) for text in tokenized),
            num_truncated=sum(text.is_truncated for text in tokenized),
        )

    def pad(self, tokenized: Sequence[TokenizedText], length: int = 0) -> PaddedBatch:
        """Pad texts of one side into a batch, at least `length` tokens long.

        Raises:
            ValueError: the texts belong to two sides.
        """
        [side] = {text.side for text in tokenized}
        return pad_batch(tokenized, side, self.side(side)._pad_id, length)

    def embed(self, batch: PaddedBatch) -> Tensor:
        """Embed one batch, [B, L] to [B, D], on the device; callers check `is_unit`."""
        return self.side(batch.side).runtime.embed(batch.token_ids, batch.attention_mask)
