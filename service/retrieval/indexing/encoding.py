"""Encoding of staged passages: shards that no interrupted run has left, one after another.

Then, if the index is to have evidence, encoding of the segments of the passages.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import EncoderIdentity, digest_of
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.evidence.segments import Span, segments_of
from service.retrieval.evidence.table import EvidenceTable, quantized, to_columns
from service.retrieval.indexing.invalid import InvalidPassages
from service.retrieval.indexing.rows import WINDOW_ROWS
from service.retrieval.indexing.shards import Shard, ShardEncoder, ShardFolder, shard_name
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.progress import OnProgress

# Large enough that most batches are full, though a batch holds texts of similar length.
SHARD_PASSAGES = 4096


@dataclass(frozen=True)
class EncodedShards:
    """The names of all shards, in the order of passages, and the number of texts encoded now."""

    names: list[str]
    num_encoded: int


def encode_missing(
    staged: StagedPassages,
    digests: NDArray[np.void],
    missing: NDArray[np.int64],
    shard_encoder: ShardEncoder,
    shards: ShardFolder,
    invalid: InvalidPassages,
    on_progress: OnProgress,
) -> EncodedShards:
    """Encode staged passages and save them as shards; shards that were saved before are kept.

    Args:
        staged: the passages.
        digests: of their texts, [N].
        missing: positions of the passages to encode, ascending.
        shard_encoder: embeds them.
        shards: the folder of shards.
        invalid: collects the passages without a unit vector.
        on_progress: called during the stage encode.
    """
    total = len(missing)
    done = num_encoded = 0
    names: list[str] = []
    parts: dict[str, list[NDArray[np.int64]]] = defaultdict(list)  # positions by shard

    def on_texts(num_texts: int) -> None:
        nonlocal done
        done += num_texts
        on_progress("encode", done, total)

    def missing_shards() -> Iterator[Shard]:
        texts = staged.encoded_texts(missing)
        for start in range(0, total, SHARD_PASSAGES):
            part = missing[start : start + SHARD_PASSAGES]
            name = shard_name(shard_encoder.identity, digests[part].tobytes())
            names.append(name)
            parts[name].append(part)  # views of `missing`
            shard = Shard(name, [next(texts) for _ in part])
            if shards.has(name):
                on_texts(len(part))
            else:
                yield shard

    on_progress("encode", 0, total)
    for name, encoded in shard_encoder.encode(missing_shards(), on_texts):
        shards.save(name, encoded)
        is_valid = encoded.is_valid
        num_encoded += int(is_valid.sum())
        if not is_valid.all():
            for part in parts[name]:
                invalid.add(part[~is_valid])
    return EncodedShards(names, num_encoded)


@dataclass(frozen=True)
class Segments:
    """The segments of a passage: where they are, and the texts that are encoded for them."""

    spans: list[Span]
    texts: list[str]
    digests: list[bytes]

    @classmethod
    def of(cls, passage: Passage, prepare: Callable[[str], str]) -> "Segments":
        """Find the segments of a passage."""
        spans, texts = segments_of(passage)
        return cls(spans, texts, [digest_of(prepare(text)) for text in texts])

    @property
    def key(self) -> bytes:
        """Return a hash of all that the evidence of a passage depends on besides the encoder."""
        content = b"".join([repr(self.spans).encode(), *self.digests])
        return hashlib.sha256(content).digest()[:16]


class SegmentsProgress:
    """Reports the stage evidence in passages, by the share of their segments that is encoded."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        """Report that none of all passages is done."""
        self._total, self._on_progress = total, on_progress
        self._read = self._num_texts = self._num_encoded = self._done = 0
        on_progress("evidence", 0, total)

    def read(self, num_passages: int, num_texts: int) -> None:
        """Take how many passages were read in all, and how many texts since the last call."""
        self._read = num_passages
        self._num_texts += num_texts

    def encoded(self, num_texts: int) -> None:
        """Report after so many more texts were encoded; the number never falls."""
        self._num_encoded += num_texts
        self._done = max(self._done, self._read * self._num_encoded // self._num_texts)
        self._on_progress("evidence", self._done, self._total)

    def end(self) -> None:
        """Report that all passages are done."""
        self._on_progress("evidence", self._total, self._total)


class EncodedSegments:
    """The vectors of the segments of staged passages, encoded in shards or known from before."""

    def __init__(
        self, staged: StagedPassages, shards: ShardFolder, known: EvidenceTable | None
    ) -> None:
        """Encode nothing yet.

        Args:
            staged: the passages, of which none is removed any more.
            shards: the folder of shards.
            known: evidence of the same encoder, found by its keys.
        """
        self._staged = staged
        self._known = known
        self._rows = known.rows_by_key() if known else {}
        self._shards = shards
        self._names: list[str] = []
        self._fresh = self._read()

    def encode(self, shard_encoder: ShardEncoder, on_progress: OnProgress) -> None:
        """Encode the segments that are not known; shards that were saved before are kept.

        Args:
            shard_encoder: embeds the segments.
            on_progress: called during the stage evidence.
        """
        progress = SegmentsProgress(len(self._staged), on_progress)
        missing = self._missing(shard_encoder.identity, progress)
        for name, encoded in shard_encoder.encode(missing, progress.encoded):
            self._shards.save(name, encoded)
        progress.end()

    def _missing(self, identity: EncoderIdentity, progress: "SegmentsProgress") -> Iterator[Shard]:
        """Yield the shards that were not saved before; note the names of all."""
        texts: list[str] = []
        digests: list[bytes] = []
        total = len(self._staged)
        passages = itertools.chain.from_iterable(self._staged.windows(WINDOW_ROWS))
        for done, passage in enumerate(passages, start=1):
            segments = Segments.of(passage, self._staged.prepare)
            if segments.key not in self._rows:
                texts += segments.texts
                digests += segments.digests
            if len(texts) >= SHARD_PASSAGES or (done == total and texts):
                name = shard_name(identity, b"".join(digests))
                self._names.append(name)
                progress.read(done, len(texts))
                if self._shards.has(name):
                    progress.encoded(len(texts))
                else:
                    yield Shard(name, texts)
                texts, digests = [], []

    def columns(self, passages: Sequence[Passage]) -> pa.Table:
        """Return the evidence of the next passages, as columns beside theirs."""
        found = [Segments.of(passage, self._staged.prepare) for passage in passages]
        vectors = [self._vectors(segments) for segments in found]
        return to_columns([each.key for each in found], [each.spans for each in found], vectors)

    def _vectors(self, segments: Segments) -> NDArray[np.int8]:
        row = self._rows.get(segments.key)
        if row is not None and self._known is not None:
            return self._known.vectors(row)
        if not segments.texts:
            return np.empty(0, np.int8)
        return quantized(np.stack([next(self._fresh) for _ in segments.texts]))

    def _read(self) -> Iterator[Embeddings]:
        for name in self._names:
            yield from self._shards.read(name).embeddings
