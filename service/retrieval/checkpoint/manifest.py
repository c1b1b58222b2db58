"""The manifest of an encoder checkpoint: what the checkpoint is, and the hash of each file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.language_quality import LanguageRecord
from service.retrieval.storage import artifact, checksums
from service.retrieval.storage.checksums import FileRecord
from service.retrieval.storage.schema import Document, JsonText, parse_document

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
# The fields that `write_manifest` computes, and `languages`, which is true of these weights alone;
# all others are facts that its caller knows.
COMPUTED_FIELDS = {
    *("digest", "embedding_dim", "files", "format_version", "max_tokens", "pooling", "prompts"),
    "languages",
}


class CheckpointManifest(Document):
    """The fields of `manifest.json` that are read; a training record is kept beside them.

    `fingerprint_prompts` are in the fingerprint of a published passage side whose original folder
    stated other prompts: the index of the original stays valid.
    """

    format_version: int
    digest: JsonText
    files: dict[JsonText, FileRecord]
    name: JsonText | None = None
    license: JsonText | None = None
    base_model: JsonText | None = None
    passage_fingerprint: JsonText | None = None
    fingerprint_prompts: dict[JsonText, JsonText] | None = None
    languages: LanguageRecord | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts that `write_manifest` was given, such as the training record."""
        return self.model_dump(exclude=COMPUTED_FIELDS, exclude_unset=True)


def write_manifest(directory: Path, **facts: object) -> CheckpointManifest:
    """Describe a complete checkpoint folder in its `manifest.json`.

    Args:
        directory: the checkpoint.
        facts: further entries: `name`, `base_model`, `license`, the training record.
    """
    layout = read_layout(directory)
    names = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != FILE_NAME
    )
    content = {
        "format_version": FORMAT_VERSION,
        "embedding_dim": layout.embedding_dim,
        "pooling": str(layout.pooling),
        "prompts": layout.prompts,
        "max_tokens": layout.max_tokens,
        "files": checksums.record_files(directory, names),
        **facts,
    }
    content["digest"] = _digest(content)
    (directory / FILE_NAME).write_bytes(artifact.canonical_json(content))
    return CheckpointManifest.model_validate(content)


def verify_manifest(directory: Path) -> CheckpointManifest | None:
    """Compare every file of a checkpoint with its manifest.

    Returns:
        The manifest; None if the checkpoint, written by another tool, has none.

    Raises:
        CheckpointError: a file is missing or altered, the manifest itself included.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return None
    content = artifact.read_json_object(path, CheckpointError)
    if content.get("digest") != _digest(content):
        raise CheckpointError(f"{path} was altered: restore it from a copy")
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {quoted(content.get('format_version'))}, "
            f"this program reads version {FORMAT_VERSION}: use a newer program"
        )
    fix = "restore it from a copy, or delete it to load the checkpoint without hashes"
    manifest = parse_document(CheckpointManifest, content, path, CheckpointError, fix)
    checksums.verify_files(directory, manifest.files, CheckpointError)
    return manifest


def fingerprint_of(
    directory: Path, layout: CheckpointLayout, manifest: CheckpointManifest | None = None
) -> str:
    """Hash all that decides a side's embeddings; arguments as for `fingerprint_parts`."""
    return hash_parts(fingerprint_parts(directory, layout, manifest))


def fingerprint_parts(
    directory: Path, layout: CheckpointLayout, manifest: CheckpointManifest | None = None
) -> dict[str, Any]:
    """Return all that decides a side's embeddings: weights, adapter, tokenizer, modules, prompts.

    Args:
        directory: the checkpoint.
        layout: of the side.
        manifest: of the checkpoint, verified; its hashes are not computed again.
    """
    verified = manifest.files if manifest else {}

    def sha256(path: Path) -> str:
        is_own = path.is_relative_to(directory)  # weights may be in the folder of a base
        record = verified.get(path.relative_to(directory).as_posix()) if is_own else None
        return record["sha256"] if record else checksums.sha256_of(path)

    parts: dict[str, Any] = {
        "weights": [sha256(path) for path in layout.weights],
        "tokenizer": _tokenizer_part(layout, sha256),
        "pooling": str(layout.pooling),
        "prompts": layout.prompts,
    }
    if layout.is_static:
        parts["module"] = "StaticEmbedding"
    else:
        parts["config"] = sha256(layout.transformer / "config.json")
    # Parts that not every encoder has are left out, so that the others keep their fingerprints.
    if not layout.pooling.include_prompt:
        parts["include_prompt"] = False
    if layout.decisive_head:
        parts["head"] = [
            {
                "kind": module.kind,
                "config": module.config.model_dump(),
                "weights": sha256(module.weights) if module.weights else None,
            }
            for module in layout.decisive_head
        ]
    if layout.truncate_dim:
        parts["truncate_dim"] = layout.truncate_dim
    if layout.tokenizer_config.truncation_side == "left":
        parts["truncation_side"] = "left"
    if layout.peft:
        parts["peft"] = layout.peft.sha256
    if layout.adapter:
        parts["adapter"] = {"sha256": layout.adapter.weights_sha256, "scale": layout.adapter.scale}
    return parts


def hash_parts(parts: Mapping[str, Any]) -> str:
    """Return the fingerprint of what `fingerprint_parts` returns."""
    return hashlib.sha256(artifact.canonical_json(parts)).hexdigest()


def _tokenizer_part(layout: CheckpointLayout, sha256: Callable[[Path], str]) -> object:
    """Return the hash of tokenizer.json, or of all files that another tokenizer is made from."""
    if not layout.tokenizer_sources:
        return sha256(layout.tokenizer)
    hashes: dict[str, object] = {path.name: sha256(path) for path in layout.tokenizer_sources}
    return hashes | ({"lower_case": True} if layout.lower_case else {})


def _digest(content: dict[str, Any]) -> str:
    described = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(artifact.canonical_json(described)).hexdigest()
