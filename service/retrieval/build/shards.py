"""What a build has encoded so far: one file a shard, so that a killed build goes on where it was.

A shard is named by its texts and by what encodes them, so that whatever build comes next finds
it, with other passages around it, too.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity, encode_passages
from service.retrieval.encoder.encoder import Encoder

DIGEST_BYTES = 32
OnTexts = Callable[[int], None]


@dataclass(frozen=True)
class Shard:
    """Some thousands of passages that are encoded at one go."""

    name: str
    texts: list[str]


class ShardEncoder(Protocol):
    """Where shards are encoded: here, in other processes, on other machines."""

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards.

        Args:
            shards: read one by one.
            on_texts: is told how many texts were encoded.

        Yields:
            Each shard's name and what it became, in any order.
        """


class InProcessEncoder:
    """Encodes in this thread."""

    def __init__(self, encoder: Encoder) -> None:
        """Take an encoder."""
        self._encoder = encoder

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards in their order."""
        for shard in shards:
            yield shard.name, encode_passages(self._encoder, shard.texts, on_texts)


def shard_name(identity: EncoderIdentity, digests: bytes) -> str:
    """Name a shard by all that decides its embeddings: what encodes, and its texts' digests."""
    # Shards that an older program left behind, which called the class Origin, keep their names.
    maker = repr(identity).replace("EncoderIdentity", "Origin", 1)
    return hashlib.sha256(maker.encode() + digests).hexdigest()[:32]


class ShardFolder:
    """Encoded shards on the disk."""

    def __init__(self, directory: Path, embedding_dim: int) -> None:
        """Make the folder where it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._embedding_dim = embedding_dim

    def save(self, name: str, encoded: EncodedPassages) -> None:
        """Write a shard: the hash of all else, flags, embeddings."""
        content = encoded.is_truncated.tobytes() + encoded.embeddings.tobytes()
        temporary = self._directory / f".{name}"
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(self._directory / name)

    def has(self, name: str) -> bool:
        """Tell whether a shard is there and whole; a crash of the machine may have cut it."""
        try:
            self.read(name)
        except OSError:
            return False
        return True

    def read(self, name: str) -> EncodedPassages:
        """Read a shard.

        Raises:
            OSError: there is none, or it is altered.
        """
        path = self._directory / name
        content = memoryview(path.read_bytes())
        digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise OSError(f"{path} is altered")
        count = len(content) // (1 + 4 * self._embedding_dim)
        return EncodedPassages(
            np.frombuffer(content[count:], np.float32).reshape(count, self._embedding_dim),
            np.frombuffer(content[:count], np.bool_),
        )
