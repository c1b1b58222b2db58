"""The push into Milvus: send a generation's vectors and fields, check them, set the alias."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.index.milvus.collection import open_collection
from service.retrieval.index.milvus.filter import ROW, field_values
from service.retrieval.index.milvus.index import MilvusIndex
from service.retrieval.index.options import MilvusOptions

BATCH_BYTES = 8 * 2**20  # of vectors per insert; a server refuses more than 64 MB
NUM_CHECKED = 8
CHECKED_SCORE = 0.99


def push(
    vectors_file: Path,
    passages: PassageTable,
    name: str,
    options: MilvusOptions | None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> str:
    """Load a generation's vectors and fields into a collection, check it, and set the alias.

    A complete collection is kept. An incomplete one, left by an interrupted push, is dropped first.

    Args:
        vectors_file: a flat index file, verified.
        passages: row i belongs to vector i.
        name: the generation's.
        options: the Milvus server, and the type of its index.
        on_rows: called with the number of vectors sent.

    Returns:
        The collection's name.

    Raises:
        GenerationError: Milvus refuses the collection, or holds other vectors than were sent.
        DeviceError: Milvus cannot be reached.
    """
    collection = open_collection(name, options)
    with flat_vectors(vectors_file) as vectors:
        count, embedding_dim = vectors.shape
        if not collection.is_complete(count):
            collection.call("drop_collection")
            collection.create(embedding_dim, passages.fields)
            for batch in _batches(vectors, passages):
                collection.call("insert", batch)
                on_rows(len(batch))
            collection.call("flush", timeout=collection.options.load_seconds)
        collection.load(count)
        index = MilvusIndex(collection, count, embedding_dim, passages.fields)
        _check_vectors(index, vectors)
    collection.set_alias()
    return collection.name


def _batches(
    vectors: NDArray[np.float32], passages: PassageTable
) -> Iterator[list[dict[str, Any]]]:
    size = max(1, BATCH_BYTES // vectors[:1].nbytes) if len(vectors) else 1
    for start in range(0, len(vectors), size):
        block = np.ascontiguousarray(vectors[start : start + size])
        values = field_values(passages, start, start + len(block))
        yield [
            {ROW: row, "vector": vector, **fields}
            for row, vector, fields in zip(
                range(start, start + len(block)), block, values, strict=True
            )
        ]


def _check_vectors(index: MilvusIndex, vectors: NDArray[np.float32]) -> None:
    """Search for some of the sent vectors, because Milvus keeps no hash of its data."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(NUM_CHECKED, len(vectors))).astype(int))
    queries = np.ascontiguousarray(vectors[rows])
    for row, ranking in zip(rows, index.search(queries, 1), strict=True):
        if ranking.scores[0] < CHECKED_SCORE or vectors[ranking.rows[0]] @ vectors[row] < 0.99:
            raise GenerationError(
                f"Milvus does not find the vector of row {row}, which was sent to it: run "
                "`clear-service index push` again"
            )
