"""FAISS on a GPU: copies of CPU indexes, and CAGRA, a graph index that cuVS builds and searches.

Written from FAISS's sources; not yet run on a GPU.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.faiss.library import (
    FAISS,
    VERSION,
    Queries,
    gpu_number,
    has_cuvs,
    is_out_of_memory,
)

CAGRA = re.compile(r"CAGRA(\d{1,3})")
CAGRA_DEGREES = range(16, 129, 16)
# cuVS prunes the graph from this many times as many neighbors.
INTERMEDIATE_DEGREES = 2
# cuVS keeps a multiple of this many candidates, at least as many as it returns.
CANDIDATE_STEP = 32
# FAISS's own kernels select at most this many lists.
MAX_LISTS = 2048


class CagraIndex:
    """A CAGRA graph on a GPU, in half precision, with the search method of a CPU index."""

    def __init__(self, index: Any, num_candidates: int) -> None:
        """Wrap a `GpuIndexCagra`; a search keeps `num_candidates`, or `top_k` if larger."""
        self._index = index
        self._num_candidates = num_candidates
        self.ntotal, self.d = index.ntotal, index.d

    def search(self, queries: Queries, top_k: int) -> tuple[Queries, NDArray[np.int64]]:
        """Find each query's nearest vectors: [B, D] to scores and rows, both [B, K]; -1 pads."""
        num_candidates = max(top_k, self._num_candidates)
        steps = -(-num_candidates // CANDIDATE_STEP)
        options = FAISS.SearchParametersCagra()
        options.itopk_size = steps * CANDIDATE_STEP
        scores, rows = self._index.search(
            queries.astype(np.float16), top_k, params=options, numeric_type=FAISS.Float16
        )
        return scores, rows


def to_gpu(index: Any, device: str, ef_search: int) -> tuple[Any, Any]:
    """Copy an index to a GPU.

    Args:
        index: as read from its file.
        device: a CUDA device (`cuda`, `cuda:N`).
        ef_search: candidates that a search of a CAGRA graph keeps.

    Returns:
        The copy, and the resources that must outlive it.

    Raises:
        DeviceError: the installed faiss cannot use the GPU, or has no CAGRA; or the GPU has too
            little memory.
        GenerationError: FAISS has no such index type on a GPU.
    """
    number = gpu_number(device)
    is_graph = isinstance(index, FAISS.IndexHNSWCagra)
    if is_graph and not has_cuvs():
        raise DeviceError(
            f"the index is a CAGRA graph and faiss {VERSION} is built without cuVS: install the "
            "extra `gpu` (faiss-gpu-cuvs), or set CLEAR_DEVICE=cpu"
        )
    resources = FAISS.StandardGpuResources()
    options = FAISS.GpuClonerOptions()
    options.useFloat16 = True
    inner = _transformed(index)
    # FAISS's own kernels search all scalar codes that a GPU can hold, cuVS not those without lists.
    scalar = (FAISS.IndexIVFScalarQuantizer, FAISS.IndexScalarQuantizer)
    options.use_cuvs = has_cuvs() and not isinstance(inner, scalar)
    lists = getattr(inner, "nprobe", 0)
    if lists > MAX_LISTS and not options.use_cuvs:
        raise GenerationError(
            f"CLEAR_NPROBE={lists} is above {MAX_LISTS}, the most lists that FAISS visits on a "
            "GPU: lower it, or set CLEAR_DEVICE=cpu"
        )
    try:
        copy = FAISS.index_cpu_to_gpu(resources, number, index, options)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise _no_room(index.ntotal, index.d, device) from None
        raise GenerationError(
            f"FAISS has no {type(index).__name__} on a GPU ({error}): build the index as Flat, "
            "IVF...,SQ8, IVF...,PQ... or CAGRA64, or set CLEAR_DEVICE=cpu"
        ) from None
    return CagraIndex(copy, ef_search) if is_graph else copy, resources


def _transformed(index: Any) -> Any:
    """Return the index of the vectors that `PCA`, `OPQ` and such have transformed."""
    while isinstance(index, FAISS.IndexPreTransform):
        index = FAISS.downcast_index(index.index)
    return index


def cagra_degree(factory: str) -> int | None:
    """Return the number of neighbors that `CAGRA64` names; None for FAISS's own factory strings.

    Raises:
        GenerationError: cuVS cannot build a graph of that degree.
    """
    match = CAGRA.fullmatch(factory)
    if match is None:
        return None
    degree = int(match[1])
    if degree not in CAGRA_DEGREES:
        raise GenerationError(
            f"{factory!r}: a CAGRA graph has 16, 32, 48 ... 128 neighbors per vector: use CAGRA64"
        )
    return degree


def check_cagra(factory: str, device: str) -> None:
    """Check that a CAGRA graph can be built on a device.

    Raises:
        DeviceError: the device is no GPU, or the installed faiss lacks cuVS.
    """
    if not device.startswith("cuda") or not has_cuvs():
        raise DeviceError(
            f"{factory!r} is built on a GPU by cuVS, and the device is {device}, faiss {VERSION} "
            f"{'with' if has_cuvs() else 'without'} cuVS: install the extra `gpu` and set "
            "CLEAR_DEVICE=cuda, or build HNSW32"
        )
    gpu_number(device)


def build_cagra(vectors: Queries, degree: int, device: str) -> Any:
    """Build a CAGRA graph on a GPU.

    Args:
        vectors: unit-norm, [N, D].
        degree: neighbors per vector.
        device: a CUDA device.

    Returns:
        The graph as a CPU index, which can be written, searched, and copied to a GPU.

    Raises:
        DeviceError: the installed faiss cannot use the GPU, or its memory is too small.
        GenerationError: cuVS cannot build the graph.
    """
    count, dim = vectors.shape
    if count <= degree:  # FAISS's copy of a graph of two or three neighbors never ends
        raise GenerationError(
            f"cuVS cannot build a graph of {degree} neighbors from {count} vectors (it needs more "
            f"than {degree}): use --factory Flat"
        )
    settings = FAISS.GpuIndexCagraConfig()
    settings.device = gpu_number(device)
    settings.graph_degree = degree
    settings.intermediate_graph_degree = INTERMEDIATE_DEGREES * degree
    resources = FAISS.StandardGpuResources()
    half = vectors.astype(np.float16)  # the copy to the CPU reads it again: FAISS keeps no copy
    try:
        graph = FAISS.GpuIndexCagra(resources, dim, FAISS.METRIC_INNER_PRODUCT, settings)
        graph.train(half, numeric_type=FAISS.Float16)
        return FAISS.index_gpu_to_cpu(graph)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise _no_room(count, dim, device) from None
        raise GenerationError(
            f"cuVS cannot build a graph of {degree} neighbors from {count} vectors "
            f"({error}): use --factory Flat"
        ) from None


def _no_room(count: int, dim: int, device: str) -> DeviceError:
    return DeviceError(
        f"{count} vectors of {dim} do not fit in the memory of {device}: use a larger GPU, or "
        "build the index with a smaller --factory, such as IVF65536,SQ8"
    )
