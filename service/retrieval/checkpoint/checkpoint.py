"""Opens checkpoints: locates an encoder's files, verifies their hashes, loads no weights."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import DESCRIPTION, check_base
from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout, read_sides
from service.retrieval.checkpoint.locator import resolve_adapter, resolve_checkpoint
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import (
    CheckpointManifest,
    fingerprint_of,
    verify_manifest,
)
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE
from service.retrieval.errors import CheckpointError, quoted


@dataclass(frozen=True)
class Checkpoint:
    """The verified files of an encoder: a layout for each side, one object if it has one side."""

    name: str
    directory: Path
    manifest: CheckpointManifest | None
    query: CheckpointLayout
    passage: CheckpointLayout

    def fingerprint(self, layout: CheckpointLayout) -> str:
        """Return the fingerprint of a side."""
        return fingerprint_of(self.directory, layout, self.manifest)

    @cached_property
    def passage_fingerprint(self) -> str:
        """Return the fingerprint of the passages that this encoder's queries search.

        It is the fingerprint of this encoder's passage side unless the manifest names another:
        a query encoder that was trained for another encoder's passages.
        """
        stated = self.manifest.passage_fingerprint if self.manifest else None
        return stated or self.fingerprint(self.passage)

    @property
    def facts(self) -> dict[str, Any]:
        """Return license, base model and training record, from the adapter or else the manifest."""
        if self.query.adapter:
            return self.query.adapter.description.facts
        return self.manifest.facts if self.manifest else {}


def open_checkpoint(name: str, cache: Path) -> Checkpoint:
    """Find an encoder's files and verify their hashes; no weights are loaded.

    Args:
        name: `bundled`, `bundled-base`, a folder, or `owner/name@commit`.
        cache: the folder of the bundled checkpoint.

    Raises:
        CheckpointError: the files are missing, altered or not supported.
    """
    directory = resolve_checkpoint(name, cache)
    try:
        manifest = verify_manifest(directory)
    except CheckpointError as error:
        if name not in (BUNDLED, BUNDLED_BASE):
            raise
        raise CheckpointError(f"{error}; or delete {directory}: it is written again") from None
    own_name = manifest.name if manifest else None
    known_as = name if name in (BUNDLED, BUNDLED_BASE) else own_name or name
    checkpoint = Checkpoint(known_as, directory, manifest, *read_sides(directory))
    if folder := resolve_adapter(name, directory):
        checkpoint = _with_adapter(checkpoint, folder)
    if checkpoint.query is not checkpoint.passage:
        _check_sides(checkpoint)
    return checkpoint


def _with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    adapter = read_adapter(folder)
    if checkpoint.query is not checkpoint.passage:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: the encoder {checkpoint.directory} has a query side of its "
            "own: use the adapter with the base that it was trained on"
        )
    check_base(adapter, checkpoint.fingerprint(checkpoint.passage), str(checkpoint.directory))
    name = adapter.description.name or f"{checkpoint.name}+{folder.name}"
    if checkpoint.name == BUNDLED:
        name = BUNDLED
    return replace(checkpoint, name=name, query=replace(checkpoint.query, adapter=adapter))


def _check_sides(checkpoint: Checkpoint) -> None:
    """Refuse two sides of different sizes, or a manifest with another passage fingerprint."""
    found, stated = checkpoint.fingerprint(checkpoint.passage), checkpoint.passage_fingerprint
    if stated != found:
        raise CheckpointError(
            f"{checkpoint.directory / MANIFEST}: `passage_fingerprint` is {quoted(stated[:16])}, "
            f"the passage side has {found[:16]}: restore the folder from a copy"
        )
    sizes = [layout.embedding_dim for layout in (checkpoint.query, checkpoint.passage)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{checkpoint.directory}: the query side has {quoted(sizes[0])} dimensions, the "
            f"passage side {quoted(sizes[1])}: use a checkpoint whose sides have the same number"
        )
