"""Embeddings of the base model, made once and kept: a run of another seed finds them ready."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from service.retrieval.artifact import publish_directory, temporary_directory
from service.retrieval.encoder import Embeddings, Encoder, Role
from trainer.batch_objectives import FrozenPool
from trainer.batches import passage_codes
from trainer.rows import Row

OnProgress = Callable[[str, int, int | None], None]
# Autocast casts the weights anew for each batch: large ones make that cheap.
BATCH_TOKENS = 8192
FILE_NAME = "embeddings.safetensors"


def frozen_pool(
    rows: Sequence[Row], encoder: Encoder, cache: Path, on_progress: OnProgress
) -> FrozenPool:
    """Embed all rows' passages and English queries with the base model."""
    passages = list(dict.fromkeys(row.positive for row in rows))
    place = {text: number for number, text in enumerate(passages)}
    queries = list(dict.fromkeys(row.query for row in rows))
    query_place = {text: number for number, text in enumerate(queries)}
    codes = np.zeros(len(passages), dtype=np.int64)
    for row, (code,) in zip(rows, passage_codes(rows, 0), strict=True):
        codes[place[row.positive]] = code
    query_embeddings = embed_once(queries, "query", encoder, cache, on_progress)
    return FrozenPool(
        passages=torch.from_numpy(embed_once(passages, "passage", encoder, cache, on_progress)),
        passage_codes=torch.from_numpy(codes),
        queries=torch.from_numpy(query_embeddings[[query_place[row.query] for row in rows]]),
        targets=torch.tensor([place[row.positive] for row in rows]),
    )


def embed_once(
    texts: Sequence[str], role: Role, encoder: Encoder, cache: Path, on_progress: OnProgress
) -> Embeddings:
    """Embed texts, or find what an earlier run made of them with the same encoder.

    Returns:
        [B, D], in the order given.
    """
    digest = hashlib.sha256()
    for part in (encoder.fingerprint, encoder.runtime.name, role, str(encoder.max_tokens), *texts):
        digest.update(part.encode() + b"\0")
    directory = cache / "embeddings" / digest.hexdigest()[:32]
    try:
        found: Embeddings = load_file(directory / FILE_NAME)["embeddings"]
        return found
    except (OSError, SafetensorError):
        pass  # not made yet, or damaged: it is made anew
    embeddings = embed_all(texts, role, encoder, on_progress)
    with temporary_directory(directory.parent, ".writing-") as temporary:
        save_file({"embeddings": embeddings}, temporary / FILE_NAME)
        if not directory.exists():
            publish_directory(temporary, directory)
    return embeddings


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
