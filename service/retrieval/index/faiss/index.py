"""The FAISS backend: an index file of any factory string, read and searched.

The row -1, with which FAISS pads a result, does not leave this folder.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.errors import GenerationError
from service.retrieval.index.backend import (
    EXTRA_CANDIDATES,
    Ranking,
    Selected,
    best_candidates,
    empty_ranking,
    group_by_selection,
    inner_products,
    rank_batch,
    search_through_ties,
)
from service.retrieval.index.faiss.exact import search_all, search_selected
from service.retrieval.index.faiss.gpu import to_gpu
from service.retrieval.index.faiss.library import VERSION, Queries, error_reason, has_cuvs

# From this many queries on, FAISS computes an exact search as a matrix product: seven times as
# fast for 32 queries.
BLAS_QUERIES = 2
# Up to this many queries, FAISS reads the vectors on one core; torch's product uses all cores.
PRODUCT_QUERIES = 16
# Indexes whose search among all vectors is exact, and the most candidates of a search on a GPU.
EXACT_TYPES = ("IndexFlat", "IndexScalarQuantizer", "GpuIndexFlat")
GPU_CANDIDATES = 2048
# Defaults of the search settings; docs/indexing.md has their recall.
NPROBE = 128
EF_SEARCH = 128


# The flag that maps a file's arrays; older builds of faiss have none.
MAPPED: int = getattr(faiss, "IO_FLAG_MMAP_IFC", 0)


class FaissIndex:
    """A FAISS index of any factory string behind the protocol `VectorIndex`.

    A search among all vectors has the recall of the index. A search among selected vectors scores
    each of them, as the index stores it: exact, but linear in their number.
    """

    def __init__(self, index: Any, exact: Any = None, resources: Any = None) -> None:
        """Wrap an index.

        Args:
            index: searched among all vectors.
            exact: holds the same vectors, for exact search; the index itself by default.
            resources: FAISS's resources of a GPU, which must outlive the index.
        """
        self._index = index
        self._exact = index if exact is None else exact
        self._resources = resources
        self._vectors = _flat_view(index)
        # Two threads must not use a GPU index at the same time, not even to search.
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Return the number of vectors."""
        return int(self._index.ntotal)

    @property
    def embedding_dim(self) -> int:
        """Return the length of a vector."""
        return int(self._index.d)

    def search(
        self,
        queries: Queries | Tensor,
        top_k: int,
        selected: Selected = None,
    ) -> list[Ranking]:
        """Find each query's nearest vectors among those selected for it.

        Args:
            queries: unit-norm, [B, D].
            top_k: 1 to `MAX_TOP_K`.
            selected: one selection per query, None for all vectors; or None, to search all
                vectors for every query.
        """
        rankings = [empty_ranking()] * len(queries)
        if self.count == 0:
            return rankings
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        for selection, group in group_by_selection(selected, len(queries)):
            found = (
                self._search_all(queries[group], top_k)
                if selection is None
                else self._search_selected(queries[group], top_k, selection.mask, selection.count)
            )
            for query, ranking in zip(group, found, strict=True):
                rankings[query] = ranking
        return rankings

    def check_selection_support(self) -> None:
        """Check that FAISS applies a selection: an excluded vector must not be found.

        Raises:
            GenerationError: FAISS refuses the selection, or (on a GPU) ignores it.
        """
        if self.count < 2:
            return
        query = np.ones((1, self.embedding_dim), np.float32)
        (best,) = self._search_all(query, 1)
        mask = np.ones(self.count, np.bool_)
        mask[best.rows[0]] = False
        (others,) = self._search_selected(query, 1, mask, self.count - 1)
        if best.rows[0] in others.rows:
            raise GenerationError(
                f"this build of faiss ({VERSION}) ignores filters: set CLEAR_INDEX_BACKEND=torch "
                "or CLEAR_DEVICE=cpu"
            )

    def _search_all(self, queries: Queries, top_k: int) -> list[Ranking]:
        if self._vectors is not None and len(queries) <= PRODUCT_QUERIES:
            best = best_candidates(inner_products(torch.from_numpy(queries), self._vectors), top_k)
            return rank_batch((best[0].numpy(), best[1].numpy()), top_k)
        with self._lock:
            if type(self._index).__name__.startswith(EXACT_TYPES):
                find = partial(self._index.search, queries)
                return search_through_ties(find, top_k, self._most_candidates(self._index))
            num_candidates = min(top_k + EXTRA_CANDIDATES, self.count)
            scores, rows = self._index.search(queries, num_candidates)
            # The probed lists, or the reached part of a graph, may hold too few vectors.
            is_short = (rows[:, : min(top_k, self.count)] < 0).any(axis=1)
            if is_short.any():
                scores[is_short], rows[is_short] = search_all(
                    self._exact, queries[is_short], num_candidates
                )
        return rank_batch((scores, rows), top_k)

    def _search_selected(
        self, queries: Queries, top_k: int, mask: NDArray[np.bool_], count: int
    ) -> list[Ranking]:
        if count == 0:
            return [empty_ranking()] * len(queries)
        find = partial(search_selected, self._exact, queries, mask=mask)
        most = min(count, self._most_candidates(self._exact))
        with self._lock:
            return search_through_ties(find, top_k, most)

    def _most_candidates(self, index: Any) -> int:
        is_on_gpu = self._resources is not None and index is self._index
        return min(self.count, GPU_CANDIDATES) if is_on_gpu else self.count


def open_faiss_index(
    path: Path,
    device: str = "cpu",
    nprobe: int | None = None,
    ef_search: int | None = None,
) -> FaissIndex:
    """Read an index file whose hash was verified: FAISS itself detects little damage.

    Args:
        path: the file.
        device: `cpu`, or a CUDA device (`cuda`, `cuda:N`).
        nprobe: lists of an IVF index that a search probes; `NPROBE` by default.
        ef_search: candidates that a graph search keeps; `EF_SEARCH` by default.

    Raises:
        GenerationError: FAISS cannot read the file, or the index lacks a search setting.
        DeviceError: the installed faiss cannot use the GPU.
    """
    # Global to the process; by default FAISS loops over single vectors.
    faiss.cvar.distance_compute_blas_threshold = BLAS_QUERIES
    index = _read_index(path)
    for setting, value, default in (
        ("nprobe", nprobe, NPROBE),
        ("efSearch", ef_search, EF_SEARCH),
    ):
        _set(index, setting, value, default)
    if not device.startswith("cuda"):
        return FaissIndex(index)
    copy, resources = to_gpu(index, device, ef_search or EF_SEARCH)
    # On a GPU, IVF, graphs and FAISS's own kernels ignore a selection: the CPU searches those.
    exact = None if has_cuvs() and isinstance(index, faiss.IndexFlat) else index
    return FaissIndex(copy, exact, resources)


@contextmanager
def flat_vectors(path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of a flat index file, [N, D]; they are valid within the context only.

    Where faiss can, they are mapped from the file, not read into memory.

    Raises:
        GenerationError: FAISS cannot read the file, or it does not hold uncompressed vectors.
    """
    index = _read_index(path, MAPPED)
    vectors = _flat_view(index)
    if vectors is None:
        raise GenerationError(
            f"{path} is a {type(index).__name__}, which does not hold uncompressed vectors: "
            "build the index with --factory Flat, or open it with FAISS"
        )
    yield vectors.numpy()


def _flat_view(index: Any) -> Tensor | None:
    """Return a view of a flat index's memory, [N, D]; it must not outlive the index."""
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        return None
    vectors = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return torch.from_numpy(vectors.reshape(index.ntotal, index.d))


def _read_index(path: Path, flags: int = 0) -> Any:
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise GenerationError(
            f"{path} is not a FAISS index ({error_reason(error)}): build the index again"
        ) from None


def _set(index: Any, setting: str, value: int | None, default: int) -> None:
    """Set a search setting; an index that lacks it is an error only if `value` is given."""
    try:
        faiss.ParameterSpace().set_index_parameter(index, setting, value or default)
    except RuntimeError:
        if value is not None:
            raise GenerationError(
                f"the index is a {type(index).__name__}, which has no {setting}: leave "
                f"{'CLEAR_NPROBE' if setting == 'nprobe' else 'CLEAR_EF_SEARCH'} out"
            ) from None
