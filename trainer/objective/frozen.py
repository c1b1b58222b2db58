"""Embeddings of the untrained base model, computed once and cached across runs.

CACHE/embeddings/<digest of encoder and role>.safetensors
    keys         sha256 of each text, cut to 16 bytes
    embeddings   one row a key
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.progress import OnProgress
from service.retrieval.storage import artifact
from trainer.data.rows import Row
from trainer.errors import DataError
from trainer.objective.batch import NO_PASSAGE, FrozenPool
from trainer.objective.columns import passage_codes

# Autocast converts the weights in every batch: large batches make that cheap.
BATCH_TOKENS = 8192
# Texts between two writes of the cache, so that a stopped run loses little.
PART_TEXTS = 4096


def build_frozen_pool(
    rows: Sequence[Row], encoder: Encoder, cache: Path, on_progress: OnProgress
) -> FrozenPool:
    """Embed the passages and English queries of all rows; the pool is on the encoder's device.

    Raises:
        DataError: no row has a passage.
    """
    passages = list(dict.fromkeys(row.positive for row in rows if row.positive))
    if not passages:
        raise DataError("no row has a passage: add rows with passages for the other rows to rank")
    place = {text: number for number, text in enumerate(passages)}
    queries = list(dict.fromkeys(row.query for row in rows))
    query_place = {text: number for number, text in enumerate(queries)}
    codes = np.zeros(len(passages), dtype=np.int64)
    for row, (code,) in zip(rows, passage_codes(rows, 0), strict=True):
        if row.positive:
            codes[place[row.positive]] = code
    query_embeddings = embed_cached(queries, "query", encoder, cache, on_progress)
    passage_embeddings = embed_cached(passages, "passage", encoder, cache, on_progress)
    query_places = np.array([query_place[row.query] for row in rows])
    targets = np.array([place.get(row.positive, NO_PASSAGE) for row in rows])
    weights = np.array([row.cross_weight for row in rows], dtype=np.float32)
    arrays = (passage_embeddings, codes, query_embeddings, query_places, targets, weights)
    return FrozenPool(*(torch.from_numpy(array).to(encoder.device) for array in arrays))


def embed_cached(
    texts: Sequence[str], role: Role, encoder: Encoder, cache: Path, on_progress: OnProgress
) -> Embeddings:
    """Embed texts; those that an earlier run embedded with the same encoder come from the cache.

    Returns:
        [B, D], in the order given.
    """
    fingerprint = encoder.passage_fingerprint if role == "passage" else encoder.fingerprint
    made_by = (fingerprint, encoder.runtime.name, str(encoder.max_tokens), role)
    path = cache / "embeddings" / f"{_digest(*made_by)}.safetensors"
    keys = [_digest(text) for text in texts]
    known = _read(path)
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    pending = list(new)
    for start in range(0, len(pending), PART_TEXTS):
        part = pending[start : start + PART_TEXTS]
        missing = [new[key] for key in part]
        embeddings = embed_texts(missing, role, encoder, on_progress, start, len(pending))
        made = dict(zip(part, embeddings, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            known = _read(path) | made  # another run may have written in the meantime
            _write(path, known)
    return np.stack([known[key] for key in keys])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read embeddings by digest; a missing or damaged file counts as empty."""
    try:
        tensors = load_file(path)
        keys = [bytes(key).hex() for key in tensors["keys"]]
        return dict(zip(keys, tensors["embeddings"], strict=True))
    except (OSError, SafetensorError, KeyError, ValueError):
        return {}


def _write(path: Path, known: Mapping[str, NDArray[np.float32]]) -> None:
    keys = np.array([list(bytes.fromhex(key)) for key in known], dtype=np.uint8)
    content = save({"keys": keys, "embeddings": np.stack(list(known.values()))})
    artifact.replace_file(path, content)


def embed_texts(
    texts: Sequence[str],
    role: Role,
    encoder: Encoder,
    on_progress: OnProgress,
    done: int = 0,
    total: int | None = None,
) -> Embeddings:
    """Embed texts and report progress, [B, D], after `done` of `total` texts."""

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        on_progress(f"embed {role} texts", done, total or len(texts))

    tokenized = encoder.tokenize(texts, role)
    return encoder.encode_tokenized(tokenized, BATCH_TOKENS, on_batch)
