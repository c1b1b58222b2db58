"""Shards: parts of a corpus that are encoded at once, and saved, one file each.

If a build is killed, the next one encodes only the missing shards. A shard is named by its texts
and its encoder, so that a build of other passages finds it, too.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity, encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.parts import EncodedText
from service.retrieval.encoder.runtime.on_demand import unload
from service.retrieval.mapped_files import RegularRelease

DIGEST_BYTES = 32
OnTexts = Callable[[int], None]


@dataclass(frozen=True)
class Shard:
    """The texts of a few thousand passages, encoded as one unit."""

    name: str
    texts: Sequence[EncodedText]


class ShardEncoder(Protocol):
    """Encodes shards: in this thread, in other processes, or on other machines."""

    @property
    def identity(self) -> EncoderIdentity:
        """Return what the embeddings depend on besides the texts."""

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards.

        Args:
            shards: read one by one.
            on_texts: called with the number of texts encoded.

        Yields:
            Each shard's name and its embeddings, in any order.
        """


class InProcessEncoder:
    """Encodes shards in this thread."""

    def __init__(self, encoder: Encoder, is_kept: bool = True) -> None:
        """Keep the encoder; free its passage side after each work unless `is_kept`."""
        self._encoder = encoder
        self._is_kept = is_kept
        self.identity = EncoderIdentity.of(encoder)

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards one by one, in order."""
        release = RegularRelease()

        def on_batch(num_texts: int) -> None:
            release.step()
            on_texts(num_texts)

        for shard in shards:
            yield shard.name, encode_passages(self._encoder, shard.texts, on_batch)
        if not self._is_kept:  # what follows needs the query side
            unload(self._encoder.side("passage").runtime)


def shard_name(identity: EncoderIdentity, digests: bytes) -> str:
    """Return a shard's name: a hash of the encoder and the texts' digests."""
    # The class was once called Origin; shards keep the names that older programs gave them.
    encoder = repr(identity).replace("EncoderIdentity", "Origin", 1)
    return hashlib.sha256(encoder.encode() + digests).hexdigest()[:32]


class ShardFolder:
    """The folder of encoded shards."""

    def __init__(self, directory: Path, embedding_dim: int) -> None:
        """Create the folder if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._embedding_dim = embedding_dim

    def save(self, name: str, encoded: EncodedPassages) -> None:
        """Write a shard: the hash of the rest, truncation flags, embeddings."""
        content = encoded.is_truncated.tobytes() + encoded.embeddings.tobytes()
        temporary = self._directory / f".{name}"
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(self._directory / name)

    def has(self, name: str) -> bool:
        """Return whether a shard can be used; a crash may have truncated it.

        A shard with an embedding that is not a unit vector is encoded again: a device may have
        computed it wrongly once.
        """
        try:
            return bool(self.read(name).is_valid.all())
        except OSError:
            return False

    def read(self, name: str) -> EncodedPassages:
        """Read a shard.

        Raises:
            OSError: it is missing or damaged.
        """
        path = self._directory / name
        content = memoryview(path.read_bytes())
        digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise OSError(f"{path} was altered")
        count = len(content) // (1 + 4 * self._embedding_dim)
        return EncodedPassages(
            np.frombuffer(content[count:], np.float32).reshape(count, self._embedding_dim),
            np.frombuffer(content[:count], np.bool_),
        )
