"""The demo's published vectors: its passages' embeddings, so that no machine need compute them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from service.demo.sentences import SENTENCES, read_sentences
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import (
    EncodedPassages,
    EncoderIdentity,
    digest_of,
    encode_passages,
)
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.indexing.shards import OnTexts, Shard
from service.retrieval.progress import OnProgress, ignore_progress

logger = logging.getLogger(__name__)
VECTORS = Path(__file__).parent / "vectors.safetensors"
# A runtime of its own: an update must not mix these vectors with those of another.
RUNTIME = "published-fp16"
NUM_CHECKED, NUM_FOUND = 4, 3


class PublishedVectors:
    """The published embeddings, looked up by the digest of a text in place of encoding it."""

    def __init__(
        self,
        identity: EncoderIdentity,
        digests: NDArray[np.void],
        embeddings: Embeddings,
        is_truncated: NDArray[np.bool_],
        encoder: Encoder,
        has_sentences: bool = False,
    ) -> None:
        """Index the embeddings [N, D] by the digests of their prepared texts [N].

        They are those of the passages and, if `has_sentences`, of all segments.
        """
        self.identity = replace(identity, runtime=RUNTIME)
        self._rows = {digest.tobytes(): row for row, digest in enumerate(digests)}
        self._embeddings = embeddings
        self._is_truncated = is_truncated
        self._encoder = encoder
        self.has_sentences = has_sentences

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Look the shards' texts up, each of which must be published."""
        for shard in shards:
            encoded = self.find([text for text in shard.texts if isinstance(text, str)])
            assert encoded is not None
            on_texts(len(encoded))
            yield shard.name, encoded

    def find(self, texts: Sequence[str]) -> EncodedPassages | None:
        """Return the embeddings of texts; None if one is not published."""
        prepare = self._encoder.side("passage").prepare
        rows = [self._rows.get(digest_of(prepare(text)), -1) for text in texts]
        if min(rows) < 0:
            return None
        return EncodedPassages(self._embeddings[rows], self._is_truncated[rows])


def open_published(
    passages: Sequence[Passage],
    encoder: Encoder,
    path: Path = VECTORS,
    sentences: Path = SENTENCES,
) -> PublishedVectors | None:
    """Open the published vectors; None, with the reason in the log, if they do not fit.

    They fit if the encoder has their fingerprint and token limit, if each text is published, and
    if the query side finds a few texts by themselves: the passage side need not be loaded.
    """
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            identity = EncoderIdentity(facts["fingerprint"], int(facts["max_tokens"]), RUNTIME)
            digests = file.get_tensor("digests").reshape(-1).view("V16")
            embeddings = file.get_tensor("embeddings").astype(np.float32)
            is_truncated = file.get_tensor("is_truncated")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s cannot be read (%s): the demo's passages are encoded here", path, error)
        return None
    max_tokens = encoder.side("passage").max_tokens
    if EncoderIdentity(encoder.passage_fingerprint, max_tokens, RUNTIME) != identity:
        logger.info("the demo's published vectors are of another encoder: passages are encoded")
        return None
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    published = PublishedVectors(identity, digests, embeddings, is_truncated, encoder)
    texts = [passage.encoder_text for passage in passages]
    if not texts or published.find(texts) is None:
        logger.info("the demo's passages are not those of its published vectors: they are encoded")
        return None
    if (lost := _num_lost(published, texts, encoder)) > 0:
        logger.warning(
            "%d of %d of the demo's passages are not found by their own texts among its published "
            "vectors: they are encoded here",
            lost,
            NUM_CHECKED,
        )
        return None
    prepare = encoder.side("passage").prepare
    found = read_sentences(sentences, passages, identity.fingerprint, prepare)
    if found is None:
        return published
    # A passage's own vector comes last, and is found.
    return PublishedVectors(
        identity,
        np.concatenate([found[0], digests]),
        np.concatenate([found[1], embeddings]),
        np.concatenate([np.zeros(len(found[0]), np.bool_), is_truncated]),
        encoder,
        has_sentences=True,
    )


def _num_lost(published: PublishedVectors, texts: Sequence[str], encoder: Encoder) -> int:
    """Return how many of a few passages are not among the best hits of their own texts.

    The query side encodes the texts: it is loaded, and close to the passage side.
    """
    sample = sorted(texts, key=len)[:: max(1, len(texts) // NUM_CHECKED)][:NUM_CHECKED]
    every, own = published.find(texts), published.find(sample)
    assert every is not None and own is not None
    tokenized = [replace(each, side="query") for each in encoder.tokenize(sample, "passage")]
    queries = encoder.encode_tokenized(tokenized)
    scores = queries @ every.embeddings.T
    num_better = (scores > (queries * own.embeddings).sum(axis=1, keepdims=True) + 1e-6).sum(axis=1)
    return int((num_better >= NUM_FOUND).sum())


def write_vectors(
    passages: Iterable[Passage],
    encoder: Encoder,
    path: Path = VECTORS,
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Encode passages and write their vectors in half precision, with what they depend on."""
    texts = list(dict.fromkeys(passage.encoder_text for passage in passages))
    prepare = encoder.side("passage").prepare
    done = 0

    def on_batch(num_texts: int) -> None:
        nonlocal done
        done += num_texts
        on_progress("encode", done, len(texts))

    encoded = encode_passages(encoder, texts, on_batch)
    identity = EncoderIdentity.of(encoder)
    digests = b"".join(digest_of(prepare(text)) for text in texts)
    save_file(
        {
            "digests": np.frombuffer(digests, np.uint8).reshape(-1, 16),
            "embeddings": encoded.embeddings.astype(np.float16),
            "is_truncated": encoded.is_truncated,
        },
        path,
        {
            "fingerprint": identity.fingerprint,
            "max_tokens": str(identity.max_tokens),
            "made_by": f"python -m service.demo, {identity.runtime}",
        },
    )
