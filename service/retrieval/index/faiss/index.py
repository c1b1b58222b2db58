"""The FAISS backend: an index file of any factory string, read and searched.

The row -1, with which FAISS pads a result, does not leave this folder.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
    empty_ranking,
    group_by_selection,
    rank_candidates,
)
from service.retrieval.index.faiss.exact import search_all, search_selected
from service.retrieval.index.faiss.gpu import to_gpu
from service.retrieval.index.faiss.library import VERSION, Queries, error_reason, has_cuvs

# From this many queries on, FAISS computes an exact search as a matrix product: seven times as
# fast for 32 queries.
BLAS_QUERIES = 2
# Up to this many queries, FAISS reads the vectors on one core; torch's product uses all cores.
PRODUCT_QUERIES = 16
# Defaults of the search settings; docs/indexing.md has their recall.
NPROBE = 128
EF_SEARCH = 128


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
            for query, scores, rows in zip(group, *found, strict=True):
                is_hit = rows >= 0  # FAISS pads with -1
                rankings[query] = rank_candidates(scores[is_hit], rows[is_hit], top_k)
        return rankings

    def check_selection_support(self) -> None:
        """Check that FAISS applies a selection: an excluded vector must not be found.

        Raises:
            GenerationError: FAISS refuses the selection, or (on a GPU) ignores it.
        """
        if self.count < 2:
            return
        query = np.ones((1, self.embedding_dim), np.float32)
        _, rows = self._search_all(query, 1)
        mask = np.ones(self.count, np.bool_)
        mask[rows[0, 0]] = False
        _, others = self._search_selected(query, 1, mask, self.count - 1)
        if rows[0, 0] in others:
            raise GenerationError(
                f"this build of faiss ({VERSION}) ignores filters: set CLEAR_INDEX_BACKEND=torch "
                "or CLEAR_DEVICE=cpu"
            )

    def _search_all(self, queries: Queries, top_k: int) -> tuple[Any, Any]:
        num_candidates = min(top_k + EXTRA_CANDIDATES, self.count)
        if self._vectors is not None and len(queries) <= PRODUCT_QUERIES:
            found = torch.topk(torch.from_numpy(queries) @ self._vectors.T, num_candidates)
            return found.values.numpy(), found.indices.numpy()
        with self._lock:
            scores, rows = self._index.search(queries, num_candidates)
            # The probed lists, or the reached part of a graph, may hold too few vectors.
            is_short = (rows[:, : min(top_k, self.count)] < 0).any(axis=1)
            if is_short.any():
                scores[is_short], rows[is_short] = search_all(
                    self._exact, queries[is_short], num_candidates
                )
        return scores, rows

    def _search_selected(
        self, queries: Queries, top_k: int, mask: NDArray[np.bool_], count: int
    ) -> tuple[Any, Any]:
        if count == 0:
            shape = (len(queries), 0)
            return np.empty(shape, np.float32), np.empty(shape, np.int64)
        with self._lock:
            return search_selected(self._exact, queries, min(top_k + EXTRA_CANDIDATES, count), mask)


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

    Raises:
        GenerationError: FAISS cannot read the file, or it does not hold uncompressed vectors.
    """
    index = _read_index(path)
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


def _read_index(path: Path) -> Any:
    try:
        return faiss.read_index(str(path))
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
