"""Exact search through any FAISS index: every vector is scored, as the index stores it.

Filtered search must be exact: an IVF index that probes some of its lists, or a graph search past
hidden vectors, finds too few vectors of a rare kind.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.retrieval.index.faiss.library import FAISS, Queries

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
DECODED_ROWS = 65_536


def can_select(index: Any) -> bool:
    """Return whether `search_selected` supports the type of an index, trained or not."""
    index = _storage(index)[0]
    return not isinstance(index, FAISS.IndexIVF) or not isinstance(index, FAISS.IndexIVFFastScan)


def search_all(index: Any, queries: Queries, top_k: int) -> Found:
    """Find each query's nearest vectors among all: [B, D] to scores and rows, both [B, K]."""
    return search_selected(index, queries, top_k, None)


def search_selected(
    index: Any, queries: Queries, top_k: int, mask: NDArray[np.bool_] | None
) -> Found:
    """Find each query's nearest vectors among the selected ones.

    Args:
        index: any index that `can_select`.
        queries: [B, D].
        top_k: at most the number of selected vectors.
        mask: True where a vector is selected, [N]; None selects all.

    Returns:
        Scores and rows, both [B, K], best first.
    """
    index, queries = _storage(index, queries)
    packed = None if mask is None else np.packbits(mask, bitorder="little")
    selector = None if packed is None else FAISS.IDSelectorBitmap(packed)
    if isinstance(index, FAISS.IndexIVF):
        options = FAISS.SearchParametersIVF(nprobe=index.nlist, sel=selector)
        found: Found = index.search(queries, top_k, params=options)
        return found
    if selector is None:
        found = index.search(queries, top_k)
        return found
    if isinstance(index, FAISS.IndexPQ | FAISS.IndexFastScan):
        assert mask is not None
        return _search_decoded(index, queries, top_k, np.flatnonzero(mask))
    found = index.search(queries, top_k, params=FAISS.SearchParameters(sel=selector))
    return found


def _storage(index: Any, queries: Any = None) -> tuple[Any, Any]:
    """Return the innermost index, which stores one code per row, and the queries it takes."""
    while True:
        index = FAISS.downcast_index(index)
        if isinstance(index, FAISS.IndexPreTransform):
            queries = None if queries is None else index.apply_chain(queries)
            index = index.index
        elif isinstance(index, FAISS.IndexRefine):
            index = index.refine_index
        elif isinstance(index, FAISS.IndexHNSW | FAISS.IndexNSG):
            index = index.storage
        else:
            return index, queries


def _search_decoded(
    index: Any, queries: Queries, top_k: int, selected_rows: NDArray[np.int64]
) -> Found:
    """Score the selected vectors, decoded from their codes: these indexes take no selector."""
    heap = FAISS.ResultHeap(len(queries), top_k, keep_max=True)
    for start in range(0, len(selected_rows), DECODED_ROWS):
        rows = selected_rows[start : start + DECODED_ROWS]
        scores = queries @ index.reconstruct_batch(rows).T
        heap.add_result(scores, np.broadcast_to(rows, scores.shape))
    heap.finalize()
    return heap.D, heap.I
