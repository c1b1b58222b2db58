"""Building a FAISS index of any factory string, and writing it to a file."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from service.retrieval.errors import GenerationError
from service.retrieval.index.faiss.exact import can_select
from service.retrieval.index.faiss.gpu import build_cagra, cagra_degree, check_cagra
from service.retrieval.index.faiss.library import error_reason

ADD_ROWS = 16_384
TRAIN_ROWS = 262_144
# In the file of a flat index: the number of vectors, and before them the number of floats.
COUNT_OFFSET = 8
UNSIGNED_64 = struct.Struct("<Q")


def check_factory(factory: str, embedding_dim: int, has_fields: bool, device: str = "cpu") -> None:
    """Check a factory string before any passage is encoded.

    Raises:
        GenerationError: FAISS does not know it, or the index it describes cannot be filtered.
        DeviceError: it describes a CAGRA graph, which cannot be built on that device.
    """
    if cagra_degree(factory):
        return check_cagra(factory, device)
    try:
        index = faiss.index_factory(embedding_dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise GenerationError(
            f"{factory!r} describes no FAISS index for vectors of {embedding_dim}: "
            f"{error_reason(error)}; use --factory Flat for up to a million passages"
        ) from None
    if has_fields and not can_select(index):
        raise GenerationError(
            f"a FAISS index of {factory!r} cannot be filtered, and fields are declared: declare "
            "none, or use Flat, SQ8, HNSW32, IVF...,SQ8 or IVF...,PQ..."
        )


def build_faiss_index(
    vectors: NDArray[np.float32],
    factory: str,
    path: Path,
    on_rows: Callable[[int], None] = lambda num_rows: None,
    device: str = "cpu",
) -> None:
    """Index vectors and write the index to a file.

    Args:
        vectors: unit-norm, [N, D]; may be memory-mapped.
        factory: FAISS's description of the index, such as `Flat` or `IVF1024,SQ8`; or `CAGRA64`, a
            graph of 64 neighbors per vector that cuVS builds.
        path: the file to write.
        on_rows: called with the number of vectors added.
        device: a CUDA device for a CAGRA graph; every other index is built on the CPU.

    Raises:
        GenerationError: FAISS does not know the factory string, or needs more vectors for it.
        DeviceError: the installed faiss cannot build a CAGRA graph on the device.
        OSError: the file cannot be written.
    """
    if degree := cagra_degree(factory):
        index = build_cagra(vectors, degree, device)
        on_rows(len(vectors))
    else:
        index = _build(vectors, factory, on_rows)
    with path.open("wb") as file:  # FAISS's own writer reports no error when the disk is full
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def write_flat_header(file: BinaryIO, count: int, embedding_dim: int) -> None:
    """Write all that precedes the vectors in the file of a flat index; `count` must follow.

    The file has the bytes that FAISS writes, and memory never holds the vectors.
    """
    empty = faiss.IndexFlatIP(embedding_dim)
    header = bytearray(faiss.serialize_index(empty).tobytes())
    UNSIGNED_64.pack_into(header, COUNT_OFFSET, count)
    UNSIGNED_64.pack_into(header, len(header) - UNSIGNED_64.size, count * embedding_dim)
    file.write(header)


def _build(vectors: NDArray[np.float32], factory: str, on_rows: Callable[[int], None]) -> Any:
    count, embedding_dim = vectors.shape
    try:
        index = faiss.index_factory(embedding_dim, factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            step = max(1, count // TRAIN_ROWS)
            index.train(np.ascontiguousarray(vectors[::step]))
    except RuntimeError as error:
        raise GenerationError(
            f"the index cannot be built as {factory!r} from {count} vectors of {embedding_dim}: "
            f"{error_reason(error)}; use --factory Flat for up to a million passages"
        ) from None
    for start in range(0, count, ADD_ROWS):
        rows = np.ascontiguousarray(vectors[start : start + ADD_ROWS])
        index.add(rows)
        on_rows(len(rows))
    return index
