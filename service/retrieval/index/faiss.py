"""The FAISS backend, on CPU and GPU: the only module that imports faiss, and that sees a row of -1.

The GPU path (`index_cpu_to_gpu`, half precision for a flat index) is written from FAISS's sources;
no GPU has run it yet.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.backend import Ranking

VERSION: str = faiss.__version__
ADD_ROWS = 16_384
TRAIN_ROWS = 262_144
PLACE_AND_CHECK = re.compile(r"^Error in .* at \S+:\d+: (?:Error: '.*' failed: )?")


class FaissIndex:
    """A FAISS index of any factory string behind the protocol `VectorIndex`."""

    def __init__(self, index: Any, resources: Any = None) -> None:
        """Take over an index and, on a GPU, the resources that must outlive it."""
        self._index = index
        self._resources = resources
        # A GPU index is not safe for two threads, not even to read.
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Count the vectors."""
        return int(self._index.ntotal)

    @property
    def embedding_dim(self) -> int:
        """Tell the length of a vector."""
        return int(self._index.d)

    def search(self, queries: NDArray[np.float32] | Tensor, top_k: int) -> list[Ranking]:
        """Find each query's nearest vectors; fewer than `top_k` where there are no more.

        Args:
            queries: unit-norm, [B, D].
            top_k: 1 to `MAX_TOP_K`.
        """
        if self.count == 0 or len(queries) == 0:
            empty = Ranking(np.empty(0, np.float32), np.empty(0, np.int64))
            return [empty] * len(queries)
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        with self._lock:
            scores, rows = self._index.search(
                np.ascontiguousarray(queries, dtype=np.float32), min(top_k, self.count)
            )
        is_hit = rows >= 0  # FAISS fills up with -1
        return [
            Ranking(query_scores[hits], query_rows[hits])
            for query_scores, query_rows, hits in zip(scores, rows, is_hit, strict=True)
        ]


def build_faiss_index(
    vectors: NDArray[np.float32],
    factory: str,
    path: Path,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> None:
    """Index vectors and write the index to a file.

    Args:
        vectors: unit-norm, [N, D]; may be memory-mapped.
        factory: FAISS's description of the index, such as `Flat` or `IVF1024,SQ8`.
        path: the file to write.
        on_rows: is told how many vectors were added.

    Raises:
        GenerationError: the factory string is not FAISS's, or there are too few vectors for it.
        OSError: the file cannot be written.
    """
    count, embedding_dim = vectors.shape
    try:
        index = faiss.index_factory(embedding_dim, factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            step = max(1, count // TRAIN_ROWS)
            index.train(np.ascontiguousarray(vectors[::step]))
    except RuntimeError as error:
        raise GenerationError(
            f"the index cannot be built as {factory!r} from {count} vectors of {embedding_dim}: "
            f"{_reason(error)}; use --factory Flat for up to a million passages"
        ) from None
    for start in range(0, count, ADD_ROWS):
        rows = np.ascontiguousarray(vectors[start : start + ADD_ROWS])
        index.add(rows)
        on_rows(len(rows))
    with path.open("wb") as file:  # FAISS's own writer is silent when the disk is full
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def open_faiss_index(path: Path, device: str = "cpu") -> FaissIndex:
    """Read an index file; its hash must have been checked, for FAISS itself notices little.

    Args:
        path: the file.
        device: `cpu`, or a CUDA device (`cuda`, `cuda:N`).

    Raises:
        GenerationError: FAISS cannot read the file.
        DeviceError: a GPU is asked for that this build of faiss does not serve.
    """
    index = _read_index(path)
    if device.startswith("cuda"):
        return _to_gpu(index, int(device.partition(":")[2] or 0))
    return FaissIndex(index)


@contextmanager
def flat_vectors(path: Path) -> Iterator[NDArray[np.float32]]:
    """Lend the vectors of a flat index file, [N, D], for as long as the context lasts.

    Raises:
        GenerationError: FAISS cannot read the file, or it does not hold the vectors as they are.
    """
    index = _read_index(path)
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise GenerationError(
            f"{path} is a {type(index).__name__}, which does not hold the vectors as they are: "
            "build the index with --factory Flat, or open it with FAISS"
        )
    # The index's own memory, not a copy: it goes with the index, when this function ends.
    vectors = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    yield vectors.reshape(index.ntotal, index.d)


def _read_index(path: Path) -> Any:
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise GenerationError(f"{path} is not a FAISS index: {_reason(error)}") from None


def num_gpus() -> int:
    """Count the GPUs that this build of faiss serves; 0 for the CPU build."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def _to_gpu(index: Any, number: int) -> FaissIndex:
    """Copy an index to a GPU. Not run on a GPU yet."""
    if number >= num_gpus():
        raise DeviceError(
            f"faiss {VERSION} serves {num_gpus()} GPUs, the index is asked for on GPU {number}: "
            "install the extra `gpu` (faiss-gpu-cuvs) instead of `cpu`, or set CLEAR_DEVICE=cpu"
        )
    resources = faiss.StandardGpuResources()
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    return FaissIndex(faiss.index_cpu_to_gpu(resources, number, index, options), resources)


def _reason(error: RuntimeError) -> str:
    """Cut FAISS's message down to what went wrong: no C++ function, file and line."""
    return PLACE_AND_CHECK.sub("", str(error).splitlines()[0])
