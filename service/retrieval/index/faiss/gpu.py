"""FAISS on a GPU: copies of CPU indexes, and CAGRA, a graph that cuVS builds and searches there.

Written from FAISS's sources; no GPU has run it yet.
"""

import re
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from service.retrieval.errors import DeviceError, GenerationError

# Its type hints are those of the CPU build.
FAISS: Any = faiss
VERSION: str = faiss.__version__
CAGRA = re.compile(r"CAGRA(\d{1,3})")
CAGRA_DEGREES = range(16, 129, 16)
# cuVS prunes a graph of so many times the neighbours.
INTERMEDIATE_DEGREES = 2
# Candidates that a search keeps come in such steps, and are never fewer than what it returns.
CANDIDATE_STEP = 32

Queries = NDArray[np.float32]


class CagraIndex:
    """A CAGRA graph on a GPU, in half precision, searched as FAISS's indexes on a CPU are."""

    def __init__(self, index: Any, num_candidates: int) -> None:
        """Take over a `GpuIndexCagra`; searches keep so many candidates, or what they return."""
        self._index = index
        self._num_candidates = num_candidates
        self.ntotal, self.d = index.ntotal, index.d

    def search(self, queries: Queries, top_k: int) -> tuple[Queries, NDArray[np.int64]]:
        """Find each query's nearest vectors, [B, D] to twice [B, K]; -1 fills up."""
        num_candidates = max(top_k, self._num_candidates)
        steps = -(-num_candidates // CANDIDATE_STEP)
        options = FAISS.SearchParametersCagra()
        options.itopk_size = steps * CANDIDATE_STEP
        scores, rows = self._index.search(
            queries.astype(np.float16), top_k, params=options, numeric_type=FAISS.Float16
        )
        return scores, rows


def num_gpus() -> int:
    """Count the GPUs that this build of faiss serves; 0 for the CPU build."""
    return int(FAISS.get_num_gpus()) if hasattr(FAISS, "StandardGpuResources") else 0


def has_cuvs() -> bool:
    """Tell whether this build of faiss holds cuVS."""
    return "CUVS" in FAISS.get_compile_options()


def gpu_number(device: str) -> int:
    """Turn `cuda` or `cuda:N` into the number of a GPU that FAISS serves.

    Raises:
        DeviceError: this build of faiss does not serve it.
    """
    number = int(device.partition(":")[2] or 0)
    if number >= num_gpus():
        raise DeviceError(
            f"faiss {VERSION} serves {num_gpus()} GPUs, the index is asked for on GPU {number}: "
            "install the extra `gpu` (faiss-gpu-cuvs) instead of `cpu`, or set CLEAR_DEVICE=cpu"
        )
    return number


def to_gpu(index: Any, device: str, ef_search: int) -> tuple[Any, Any]:
    """Copy an index to a GPU.

    Args:
        index: as it was read.
        device: a CUDA device (`cuda`, `cuda:N`).
        ef_search: candidates that a search of a CAGRA graph keeps.

    Returns:
        The copy, and the resources that must outlive it.

    Raises:
        DeviceError: this build of faiss does not serve the GPU, or has no CAGRA.
        GenerationError: FAISS has no such index on a GPU.
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
    # cuVS has no lists of scalar codes; FAISS's own kernels have.
    options.use_cuvs = has_cuvs() and not isinstance(index, FAISS.IndexIVFScalarQuantizer)
    try:
        copy = FAISS.index_cpu_to_gpu(resources, number, index, options)
    except RuntimeError as error:
        raise GenerationError(
            f"FAISS has no {type(index).__name__} on a GPU ({error}): build the index as Flat, "
            "IVF...,SQ8, IVF...,PQ... or CAGRA64, or set CLEAR_DEVICE=cpu"
        ) from None
    return CagraIndex(copy, ef_search) if is_graph else copy, resources


def cagra_degree(factory: str) -> int | None:
    """Read the neighbours of a vector from `CAGRA64`; None where the factory string is FAISS's own.

    Raises:
        GenerationError: no such graph can be made.
    """
    match = CAGRA.fullmatch(factory)
    if match is None:
        return None
    degree = int(match[1])
    if degree not in CAGRA_DEGREES:
        raise GenerationError(
            f"{factory!r}: a CAGRA graph has 16, 32, 48 ... 128 neighbours a vector: use CAGRA64"
        )
    return degree


def check_cagra(factory: str, device: str) -> None:
    """See that a CAGRA graph could be built.

    Raises:
        DeviceError: there is no GPU for it, or no cuVS.
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
        degree: neighbours of a vector.
        device: a CUDA device.

    Returns:
        The graph as an index for the CPU, which can be written, searched, and copied to a GPU.

    Raises:
        DeviceError: this build of faiss does not serve the GPU.
        GenerationError: cuVS cannot build it.
    """
    settings = FAISS.GpuIndexCagraConfig()
    settings.device = gpu_number(device)
    settings.graph_degree = degree
    settings.intermediate_graph_degree = INTERMEDIATE_DEGREES * degree
    resources = FAISS.StandardGpuResources()
    graph = FAISS.GpuIndexCagra(resources, vectors.shape[1], FAISS.METRIC_INNER_PRODUCT, settings)
    try:
        graph.train(vectors.astype(np.float16), numeric_type=FAISS.Float16)
        return FAISS.index_gpu_to_cpu(graph)
    except RuntimeError as error:
        raise GenerationError(
            f"cuVS cannot build a graph of {degree} neighbours from {len(vectors)} vectors "
            f"({error}): use --factory Flat"
        ) from None
