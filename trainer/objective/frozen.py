"""Embeddings of the base model, made once and kept: a run of another seed finds them ready."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from service.retrieval.encoder.encoder import Embeddings, Encoder, Role
from service.retrieval.progress import OnProgress
from service.retrieval.storage import artifact
from trainer.data.rows import Row
from trainer.data.training_rows import passage_codes
from trainer.objective.batch import FrozenPool

# Autocast casts the weights anew for each batch: large ones make that cheap.
BATCH_TOKENS = 8192


def frozen_pool(
    rows: Sequence[Row], encoder: Encoder, cache: Path, on_progress: OnProgress
) -> FrozenPool:
    """Embed all rows' passages and English queries with the base model, for its device."""
    passages = list(dict.fromkeys(row.positive for row in rows))
    place = {text: number for number, text in enumerate(passages)}
    queries = list(dict.fromkeys(row.query for row in rows))
    query_place = {text: number for number, text in enumerate(queries)}
    codes = np.zeros(len(passages), dtype=np.int64)
    for row, (code,) in zip(rows, passage_codes(rows, 0), strict=True):
        codes[place[row.positive]] = code
    query_embeddings = embed_once(queries, "query", encoder, cache, on_progress)
    passage_embeddings = embed_once(passages, "passage", encoder, cache, on_progress)
    row_queries = query_embeddings[[query_place[row.query] for row in rows]]
    targets = np.array([place[row.positive] for row in rows])
    arrays = (passage_embeddings, codes, row_queries, targets)
    return FrozenPool(*(torch.from_numpy(array).to(encoder.device) for array in arrays))


def embed_once(
    texts: Sequence[str], role: Role, encoder: Encoder, cache: Path, on_progress: OnProgress
) -> Embeddings:
    """Embed the texts that no earlier run has embedded with the same encoder, and keep them.

    Returns:
        [B, D], in the order given.
    """
    made_by = (encoder.fingerprint, encoder.runtime.name, str(encoder.max_tokens), role)
    path = cache / "embeddings" / f"{_digest(*made_by)}.safetensors"
    keys = [_digest(text) for text in texts]
    known = _read(path)
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if new:
        embeddings = embed_all(list(new.values()), role, encoder, on_progress)
        made = dict(zip(new, embeddings, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            known = _read(path) | made  # another run may have written meanwhile
            _write(path, known)
    return np.stack([known[key] for key in keys])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read embeddings by digest; a damaged file is made anew."""
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


def embed_all(
    texts: Sequence[str], role: Role, encoder: Encoder, on_progress: OnProgress
) -> Embeddings:
    """Embed texts and tell how many are done."""
    done = 0

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        on_progress(f"embed {role} texts", done, len(texts))

    tokenized = encoder.tokenize(texts, role)
    return encoder.encode_tokenized(tokenized, BATCH_TOKENS, on_batch)
