"""Pushing a generation into Milvus, before it is published or later."""

from pathlib import Path

from service.retrieval.corpus.table import PassageTable
from service.retrieval.generation.manifest import (
    MANIFEST,
    PASSAGES,
    VECTORS,
    parse_manifest,
)
from service.retrieval.index.open import choose_backend
from service.retrieval.index.options import IndexOptions
from service.retrieval.progress import OnProgress


def push_generation(
    directory: Path, name: str, options: IndexOptions, on_progress: OnProgress
) -> str:
    """Load a verified generation into Milvus and point the alias at it.

    Args:
        directory: the generation's folder, which may not have its final name yet.
        name: the generation's.
        options: the Milvus server.
        on_progress: called during the stage push.

    Returns:
        The collection's name.

    Raises:
        GenerationError: the index is not flat, or Milvus refuses it.
        DeviceError: Milvus cannot be reached.
    """
    from service.retrieval.index.milvus.push import push  # an extra of its own

    manifest = parse_manifest(directory / MANIFEST)
    choose_backend(manifest.factory, options)
    passages = PassageTable(directory / PASSAGES, manifest.fields)
    done = 0

    def on_rows(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        on_progress("push", done, len(passages))

    return push(directory / VECTORS, passages, name, options.milvus, on_rows)


def push_if_configured(
    directory: Path, name: str, options: IndexOptions, on_progress: OnProgress
) -> None:
    """Push a finished generation if Milvus is the backend; errors as in `push_generation`."""
    if options.backend == "milvus":
        push_generation(directory, name, options, on_progress)
