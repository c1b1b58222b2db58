"""Checkpoints that compute NaN, infinity or zero, and generations that hold such vectors."""

import json
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from service.retrieval.checkpoint.manifest import write_manifest as describe
from service.retrieval.storage.checksums import sha256_of
from tests.support.builds import live_directory, rewrite_manifest

Tensors = dict[str, Tensor]
Damage = Callable[[Tensors, int], None]
BAD = "~"  # the one token that `ONE_ROW` damages
TABLE = "embeddings.word_embeddings.weight"
FIRST, LAST = "encoder.layer.0", "encoder.layer.1"


def _put(name: str, value: float) -> Damage:
    def damage(tensors: Tensors, bad_token: int) -> None:
        tensors[name].flatten()[0] = value

    return damage


def _zero(tensors: Tensors, bad_token: int) -> None:
    tensors[f"{LAST}.output.LayerNorm.weight"].zero_()
    tensors[f"{LAST}.output.LayerNorm.bias"].zero_()


def _put_row(value: float) -> Damage:
    def damage(tensors: Tensors, bad_token: int) -> None:
        tensors[TABLE][bad_token] = value

    return damage


def overflow(weight: float) -> Damage:
    """Return a damage of finite weights: their products with the bad token's row overflow.

    That token alone passes a threshold, and is multiplied by `weight` twice.
    """

    def damage(tensors: Tensors, bad_token: int) -> None:
        tensors[TABLE][bad_token] = 0.0
        tensors[TABLE][bad_token, 0] = 1000.0  # 5.57 after the layer's norm; no other is beyond 5
        for name in ("weight", "bias"):
            tensors[f"{FIRST}.attention.output.dense.{name}"].zero_()
        tensors[f"{FIRST}.intermediate.dense.weight"][0] = 0.0
        tensors[f"{FIRST}.intermediate.dense.weight"][0, 0] = weight
        tensors[f"{FIRST}.intermediate.dense.bias"][0] = -5.3 * weight
        tensors[f"{FIRST}.output.dense.weight"][:, 0] = weight

    return damage


# Of every text.
ALL_TEXTS: dict[str, Damage] = {
    "NaN": _put(f"{LAST}.output.dense.weight", torch.nan),
    "infinity": _put(f"{FIRST}.attention.self.query.weight", torch.inf),
    "zero": _zero,
}
# Of the texts that hold `BAD`.
ONE_ROW: dict[str, Damage] = {
    "NaN in a row": _put_row(torch.nan),
    "infinity in a row": _put_row(-torch.inf),
    "overflow": overflow(1e20),
}


def damage_checkpoint(checkpoint: Path, damage: Damage) -> Path:
    """Change a checkpoint's weights, and its manifest's hashes."""
    weights = checkpoint / "model.safetensors"
    tensors = load_file(weights)
    bad_token = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id(BAD)
    damage(tensors, bad_token)
    save_file(tensors, weights, {"format": "pt"})
    if (checkpoint / "manifest.json").exists():
        (checkpoint / "manifest.json").unlink()
        describe(checkpoint, name=checkpoint.name)
    return checkpoint


def replace_vectors(index: Path, change: Callable[[NDArray[np.float32]], None]) -> Path:
    """Change the vectors of a live generation, flat or not, as an older program might have."""
    directory = live_directory(index)
    raw = directory / "embeddings.f32"
    if raw.exists():
        path = raw
        vectors = np.fromfile(raw, np.float32).reshape(-1, 32)
        change(vectors)
        vectors.tofile(raw)
    else:
        path = directory / "vectors.faiss"
        flat = faiss.read_index(str(path))
        vectors = flat.reconstruct_n(0, flat.ntotal)
        change(vectors)
        flat.reset()
        flat.add(vectors)
        faiss.write_index(flat, str(path))
    manifest = json.loads((directory / "manifest.json").read_text())
    files = manifest["files"]
    files[path.name] = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    renamed = rewrite_manifest(index, files=files)
    (index / "CURRENT").write_text(f"{renamed.name}\n")
    return renamed
