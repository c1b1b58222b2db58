"""An encoder's files, verified against their hashes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import DESCRIPTION, check_base, read_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout, read_sides
from service.retrieval.checkpoint.locator import resolve_adapter, resolve_checkpoint
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import fingerprint_of, verify_manifest
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE
from service.retrieval.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """What an encoder's name leads to: two layouts, one and the same where it has but one side."""

    name: str
    directory: Path
    manifest: dict[str, Any]
    query: CheckpointLayout
    passage: CheckpointLayout

    def fingerprint(self, layout: CheckpointLayout) -> str:
        """Tell the fingerprint of a side."""
        return fingerprint_of(self.directory, layout, self.manifest)


def open_checkpoint(name: str, cache: Path) -> Checkpoint:
    """Find an encoder's files and hold them against their hashes, no weights loaded.

    Raises:
        CheckpointError: they are missing, altered, or ask for what is not supported.
    """
    directory = resolve_checkpoint(name, cache)
    try:
        manifest = verify_manifest(directory)
    except CheckpointError as error:
        if name not in (BUNDLED, BUNDLED_BASE):
            raise
        raise CheckpointError(f"{error}; or delete {directory}: it is written anew") from None
    known_as = name if name in (BUNDLED, BUNDLED_BASE) else str(manifest.get("name", name))
    checkpoint = Checkpoint(known_as, directory, manifest, *read_sides(directory))
    if folder := resolve_adapter(name, directory):
        checkpoint = _with_adapter(checkpoint, folder)
    return (
        checkpoint
        if checkpoint.query is checkpoint.passage
        else _with_passage_fingerprint(checkpoint)
    )


def _with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    adapter = read_adapter(folder)
    if checkpoint.query is not checkpoint.passage:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: the encoder {checkpoint.directory} has a query side of its "
            "own: use the adapter with the base that it was trained on"
        )
    check_base(adapter, checkpoint.fingerprint(checkpoint.passage), str(checkpoint.directory))
    name = str(adapter.description.get("name", f"{checkpoint.name}+{folder.name}"))
    if checkpoint.name == BUNDLED:
        name = BUNDLED
    return replace(checkpoint, name=name, query=replace(checkpoint.query, adapter=adapter))


def _with_passage_fingerprint(checkpoint: Checkpoint) -> Checkpoint:
    """Record the passage side's fingerprint; a manifest that names another one is wrong."""
    found = checkpoint.fingerprint(checkpoint.passage)
    stated = checkpoint.manifest.get("passage_fingerprint", found)
    if stated != found:
        raise CheckpointError(
            f"{checkpoint.directory / MANIFEST}: `passage_fingerprint` is {str(stated)[:16]}, the "
            f"passage side has {found[:16]}: restore the folder from a copy"
        )
    sizes = [layout.config.get("hidden_size") for layout in (checkpoint.query, checkpoint.passage)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{checkpoint.directory}: the query side has {sizes[0]} dimensions, the passage side "
            f"{sizes[1]}: both must be of one size"
        )
    return replace(checkpoint, manifest=checkpoint.manifest | {"passage_fingerprint": found})
