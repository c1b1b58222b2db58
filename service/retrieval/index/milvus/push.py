"""The push into Milvus: a generation's vectors and fields, sent, checked, put under the alias."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.index.milvus.collection import collection_of
from service.retrieval.index.milvus.filter import ROW, row_values
from service.retrieval.index.milvus.index import MilvusIndex
from service.retrieval.index.options import MilvusOptions

BATCH_BYTES = 8 * 2**20  # of vectors in one insert; a server refuses more than 64 MB
NUM_CHECKED = 8
CHECKED_SCORE = 0.99


def push(
    vectors_file: Path,
    passages: PassageTable,
    name: str,
    options: MilvusOptions | None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> str:
    """Load a generation's vectors and fields into a collection, check it, set the alias on it.

    What a push that was stopped left is dropped and begun anew; a complete collection is kept.

    Args:
        vectors_file: a flat index file, verified.
        passages: row i belongs to vector i.
        name: the generation's.
        options: which Milvus, and the type of its index.
        on_rows: is told how many vectors were sent.

    Returns:
        The collection.

    Raises:
        GenerationError: Milvus refuses the collection, or holds other than what was sent.
        DeviceError: Milvus cannot be reached.
    """
    collection = collection_of(name, options)
    with flat_vectors(vectors_file) as vectors:
        count, embedding_dim = vectors.shape
        if not collection.is_complete(count):
            collection.ask("drop_collection")
            collection.create(embedding_dim, passages.fields)
            for batch in _batches(vectors, passages):
                collection.ask("insert", batch)
                on_rows(len(batch))
            collection.ask("flush", timeout=collection.options.load_seconds)
        collection.load(count)
        index = MilvusIndex(collection, count, embedding_dim, passages.fields)
        _check_vectors(index, vectors)
    collection.take_alias()
    return collection.name


def _batches(
    vectors: NDArray[np.float32], passages: PassageTable
) -> Iterator[list[dict[str, Any]]]:
    size = max(1, BATCH_BYTES // vectors[:1].nbytes) if len(vectors) else 1
    for start in range(0, len(vectors), size):
        block = np.ascontiguousarray(vectors[start : start + size])
        values = row_values(passages, start, start + len(block))
        yield [
            {ROW: row, "vector": vector, **fields}
            for row, vector, fields in zip(
                range(start, start + len(block)), block, values, strict=True
            )
        ]


def _check_vectors(index: MilvusIndex, vectors: NDArray[np.float32]) -> None:
    """Search for some of the vectors that were sent: Milvus keeps no hash of its data."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(NUM_CHECKED, len(vectors))).astype(int))
    queries = np.ascontiguousarray(vectors[rows])
    for row, ranking in zip(rows, index.search(queries, 1), strict=True):
        if ranking.scores[0] < CHECKED_SCORE or vectors[ranking.rows[0]] @ vectors[row] < 0.99:
            raise GenerationError(
                f"Milvus does not find the vector of row {row} that was sent to it: run "
                "`clear-service index push` again"
            )
