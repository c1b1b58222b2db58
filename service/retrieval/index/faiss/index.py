"""The FAISS backend: indexes of any factory string, built, written, read and searched.

What it takes from FAISS for a GPU is in `faiss_gpu`, exact search through any kind of index in
`faiss_exact`; a row of -1 goes no further than these modules.
"""

import re
import threading
from collections.abc import Callable, Iterator
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
    best_first,
    by_selection,
    empty_ranking,
)
from service.retrieval.index.faiss.exact import can_select, search_all, search_selected
from service.retrieval.index.faiss.gpu import (
    build_cagra,
    cagra_degree,
    check_cagra,
    has_cuvs,
    to_gpu,
)

VERSION: str = faiss.__version__
ADD_ROWS = 16_384
TRAIN_ROWS = 262_144
# From so many queries on, an exact search is a matrix product: seven times as fast for 32.
BLAS_QUERIES = 2
# Up to so many, FAISS reads the vectors with one core, torch's product with all of them.
PRODUCT_QUERIES = 16
# What a search looks at where nothing is set; tests/bench/README.md has the recall.
NPROBE = 128
EF_SEARCH = 128
PLACE_AND_CHECK = re.compile(r"^Error in .* at \S+:\d+: (?:Error: '.*' failed: )?")

Queries = NDArray[np.float32]


class FaissIndex:
    """A FAISS index of any factory string behind the protocol `VectorIndex`.

    What is searched among all vectors is as good as the index; what is searched among selected
    ones is exact over the vectors as the index holds them, at the cost of looking at each.
    """

    def __init__(self, index: Any, exact: Any = None, resources: Any = None) -> None:
        """Take over an index.

        Args:
            index: searched where all vectors are asked for.
            exact: the same vectors for the searches that look at each; the index by default.
            resources: of a GPU, which must outlive the index.
        """
        self._index = index
        self._exact = index if exact is None else exact
        self._resources = resources
        self._vectors = _flat_view(index)
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
            selected: one a query, None for all vectors; or None, for all of every query.
        """
        rankings = [empty_ranking()] * len(queries)
        if self.count == 0:
            return rankings
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        for selection, group in by_selection(selected, len(queries)):
            found = (
                self._search_all(queries[group], top_k)
                if selection is None
                else self._search_selected(queries[group], top_k, selection.mask, selection.count)
            )
            for query, scores, rows in zip(group, *found, strict=True):
                is_hit = rows >= 0  # FAISS fills up with -1
                rankings[query] = best_first(scores[is_hit], rows[is_hit], top_k)
        return rankings

    def check_selects(self) -> None:
        """Search for a vector among all others, to see that it is not found.

        Raises:
            GenerationError: FAISS refuses, or (on a GPU) ignores the selection.
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
            # Lists that are looked at, or a graph's reach, may hold too few.
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


def check_factory(factory: str, embedding_dim: int, has_fields: bool, device: str = "cpu") -> None:
    """Refuse a factory string before there is anything to index.

    Raises:
        GenerationError: it is not FAISS's, or what it describes cannot be filtered.
        DeviceError: it describes a CAGRA graph, which is not built on that device.
    """
    if cagra_degree(factory):
        return check_cagra(factory, device)
    try:
        index = faiss.index_factory(embedding_dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise GenerationError(
            f"{factory!r} describes no FAISS index for vectors of {embedding_dim}: "
            f"{_reason(error)}; use --factory Flat for up to a million passages"
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
            graph of 64 neighbours that cuVS builds.
        path: the file to write.
        on_rows: is told how many vectors were added.
        device: a CUDA device for a CAGRA graph; all else is built on the CPU.

    Raises:
        GenerationError: the factory string is not FAISS's, or there are too few vectors for it.
        DeviceError: a CAGRA graph is asked for, and the device is not one that FAISS serves.
        OSError: the file cannot be written.
    """
    if degree := cagra_degree(factory):
        index = build_cagra(vectors, degree, device)
        on_rows(len(vectors))
    else:
        index = _build(vectors, factory, on_rows)
    with path.open("wb") as file:  # FAISS's own writer is silent when the disk is full
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


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
            f"{_reason(error)}; use --factory Flat for up to a million passages"
        ) from None
    for start in range(0, count, ADD_ROWS):
        rows = np.ascontiguousarray(vectors[start : start + ADD_ROWS])
        index.add(rows)
        on_rows(len(rows))
    return index


def open_faiss_index(
    path: Path,
    device: str = "cpu",
    nprobe: int | None = None,
    ef_search: int | None = None,
) -> FaissIndex:
    """Read an index file; its hash must have been checked, for FAISS itself notices little.

    Args:
        path: the file.
        device: `cpu`, or a CUDA device (`cuda`, `cuda:N`).
        nprobe: lists of an IVF index that a search looks at; `NPROBE` by default.
        ef_search: candidates that a search of a graph keeps; `EF_SEARCH` by default.

    Raises:
        GenerationError: FAISS cannot read the file, or it has no such search setting.
        DeviceError: a GPU is asked for that this build of faiss does not serve.
    """
    # Of all indexes of the process; FAISS itself would loop over single vectors.
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
    # Lists, graphs and FAISS's own kernels ignore a selection on a GPU: such searches stay here.
    exact = None if has_cuvs() and isinstance(index, faiss.IndexFlat) else index
    return FaissIndex(copy, exact, resources)


@contextmanager
def flat_vectors(path: Path) -> Iterator[NDArray[np.float32]]:
    """Lend the vectors of a flat index file, [N, D], for as long as the context lasts.

    Raises:
        GenerationError: FAISS cannot read the file, or it does not hold the vectors as they are.
    """
    index = _read_index(path)
    vectors = _flat_view(index)
    if vectors is None:
        raise GenerationError(
            f"{path} is a {type(index).__name__}, which does not hold the vectors as they are: "
            "build the index with --factory Flat, or open it with FAISS"
        )
    yield vectors.numpy()


def _flat_view(index: Any) -> Tensor | None:
    """See a flat index's own memory as a matrix, [N, D]; it must not outlive the index."""
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        return None
    vectors = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return torch.from_numpy(vectors.reshape(index.ntotal, index.d))


def _read_index(path: Path) -> Any:
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise GenerationError(f"{path} is not a FAISS index: {_reason(error)}") from None


def _set(index: Any, setting: str, value: int | None, default: int) -> None:
    """Set how much a search looks at; only what is asked for must be known to the index."""
    try:
        faiss.ParameterSpace().set_index_parameter(index, setting, value or default)
    except RuntimeError:
        if value is not None:
            raise GenerationError(
                f"the index is a {type(index).__name__}, which has no {setting}: leave "
                f"{'CLEAR_NPROBE' if setting == 'nprobe' else 'CLEAR_EF_SEARCH'} out"
            ) from None


def _reason(error: RuntimeError) -> str:
    """Cut FAISS's message down to what went wrong: no C++ function, file and line."""
    return PLACE_AND_CHECK.sub("", str(error).splitlines()[0])
