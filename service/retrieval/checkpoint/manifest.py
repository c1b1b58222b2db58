"""The manifest of an encoder checkpoint: what it is, and the hash of each of its files."""

import hashlib
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.layout import CheckpointLayout, read_layout
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"


def write_manifest(directory: Path, **facts: object) -> dict[str, Any]:
    """Describe a finished checkpoint folder in its `manifest.json`.

    Args:
        directory: the checkpoint.
        facts: what else is worth knowing: `name`, `base_model`, `license`, training record.

    Returns:
        The manifest.
    """
    layout = read_layout(directory)
    names = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != FILE_NAME
    )
    content = {
        "format_version": FORMAT_VERSION,
        "embedding_dim": layout.config.get("hidden_size"),
        "pooling": layout.pooling,
        "prompts": layout.prompts,
        "max_tokens": layout.max_tokens,
        "files": artifact.record_files(directory, names),
        **facts,
    }
    content["digest"] = _digest(content)
    (directory / FILE_NAME).write_bytes(artifact.canonical_json(content))
    return content


def verify_manifest(directory: Path) -> dict[str, Any]:
    """Hold every file of a checkpoint against its manifest.

    Returns:
        The manifest; empty where the checkpoint, written by another tool, has none.

    Raises:
        CheckpointError: a file is missing or altered, the manifest itself included.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return {}
    content = artifact.read_json_object(path, CheckpointError)
    if content.get("digest") != _digest(content):
        raise CheckpointError(f"{path} was altered: restore it from a copy")
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {content.get('format_version')}, "
            f"this program reads version {FORMAT_VERSION}: use a newer program"
        )
    artifact.verify_files(directory, content["files"], CheckpointError)
    return content


def fingerprint_of(directory: Path, layout: CheckpointLayout, manifest: dict[str, Any]) -> str:
    """Hash all that decides a side's embeddings: weights, adapter, tokenizer, config, prompts.

    Hashes that `verify_manifest` has just checked are not computed a second time.
    """
    verified = manifest.get("files", {})

    def sha256(path: Path) -> str:
        record = verified.get(path.relative_to(directory).as_posix())
        return str(record["sha256"]) if record else artifact.sha256_of(path)

    parts = {
        "weights": [sha256(path) for path in layout.weights],
        "tokenizer": sha256(layout.tokenizer),
        "config": sha256(layout.transformer / "config.json"),
        "pooling": layout.pooling,
        "prompts": layout.prompts,
    }
    if layout.adapter:
        parts["adapter"] = {"sha256": layout.adapter.weights_sha256, "scale": layout.adapter.scale}
    return hashlib.sha256(artifact.canonical_json(parts)).hexdigest()


def _digest(content: dict[str, Any]) -> str:
    described = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(artifact.canonical_json(described)).hexdigest()
