"""The vectors of a generation, as they were computed: read, and checked to be unit vectors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError, quoted
from service.retrieval.generation.manifest import (
    EMBEDDINGS,
    PASSAGES,
    VECTORS,
    GenerationManifest,
)
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.unit_vectors import are_unit


@contextmanager
def open_vectors_of(directory: Path, manifest: GenerationManifest) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of a generation whose hashes were verified, [N, D], mapped from their file.

    They are in the index if it is flat; beside any other index, which stores them compressed or
    changed, lies `embeddings.f32`.

    Raises:
        GenerationError: the file has another size or form.
    """
    if EMBEDDINGS not in manifest.files:
        with flat_vectors(directory / VECTORS) as vectors:
            yield vectors
        return
    path, shape = directory / EMBEDDINGS, (manifest.count, manifest.dimension)
    if path.stat().st_size != 4 * manifest.count * manifest.dimension:
        raise GenerationError(
            f"{path} does not hold {shape[0]} vectors of {shape[1]}: build the index again"
        )
    yield np.memmap(path, np.float32, "r", shape=shape)


def map_vectors(directory: Path, manifest: GenerationManifest) -> NDArray[np.float32] | None:
    """Map the vectors of a verified generation, [N, D]; None if it holds a compressed index only.

    In the file of a flat index they come last.
    """
    shape = (manifest.count, manifest.dimension)
    path = directory / (EMBEDDINGS if EMBEDDINGS in manifest.files else VECTORS)
    offset = path.stat().st_size - 4 * manifest.count * manifest.dimension
    if path.name == VECTORS and manifest.factory != "Flat" or offset < 0:
        return None
    return np.memmap(path, np.float32, "r", offset, shape)


def check_vectors(directory: Path, manifest: GenerationManifest) -> None:
    """Check that every vector is finite and of length 1.

    One vector of NaN is among the hits of every query. An index that is not flat and lies without
    `embeddings.f32`, as other programs may make it, is not checked.

    Raises:
        GenerationError: some are not; how many, and the passage of the first.
    """
    if EMBEDDINGS not in manifest.files and manifest.factory != "Flat":
        return
    with open_vectors_of(directory, manifest) as vectors:
        invalid = np.flatnonzero(~are_unit(vectors))
    if len(invalid):
        passages = PassageTable(directory / PASSAGES, manifest.fields)
        row = int(invalid[0])
        [name] = passages.passage_ids([row]) if row < len(passages) else [""]
        raise GenerationError(
            f"{directory} holds {len(invalid)} vectors that are NaN, infinite or not of length 1, "
            f"the first in row {row}, of the passage {quoted(name)}: run `clear-service index "
            "update`, which embeds their passages again"
        )
