"""Encoding of staged passages: shards that no interrupted run has left, one after another."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.retrieval.indexing.invalid import InvalidPassages
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
        texts = staged.encoder_texts(missing)
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
