"""The Milvus backend: one collection per generation, for an index that outgrows one machine.

A generation keeps its files. Its vectors and fields are also loaded into a collection of its own
name, which is counted and searched before the alias points at it. A service searches the
collection of the generation that it opened, not the alias, so that passages and vectors of two
generations never mix.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.corpus.fields import NO_FIELDS, Fields
from service.retrieval.corpus.selection import Selection
from service.retrieval.errors import GenerationError
from service.retrieval.index.backend import (
    EXTRA_CANDIDATES,
    Ranking,
    Selected,
    empty_ranking,
    group_by_selection,
    rank_candidates,
)
from service.retrieval.index.milvus.collection import CONSISTENCY, Collection, open_collection
from service.retrieval.index.milvus.filter import to_expression
from service.retrieval.index.options import MilvusOptions

MAX_CANDIDATES = 16_384


class MilvusIndex:
    """One loaded collection behind the protocol `VectorIndex`.

    Filters run in Milvus. They are exact with the index types FLAT and GPU_BRUTE_FORCE; with other
    types they have the recall of the index, and a ranking that is too short is searched again with
    more candidates.
    """

    def __init__(
        self, collection: Collection, count: int, embedding_dim: int, fields: Fields
    ) -> None:
        """Wrap a collection that is loaded and complete."""
        self._collection = collection
        self._count = count
        self._embedding_dim = embedding_dim
        self._fields = fields

    @property
    def count(self) -> int:
        """Return the number of vectors."""
        return self._count

    @property
    def embedding_dim(self) -> int:
        """Return the length of a vector."""
        return self._embedding_dim

    def search(
        self, queries: NDArray[np.float32] | Tensor, top_k: int, selected: Selected = None
    ) -> list[Ranking]:
        """Find each query's nearest vectors; arguments as in `VectorIndex.search`.

        Raises:
            GenerationError: Milvus fails, or returns too few vectors.
        """
        rankings = [empty_ranking()] * len(queries)
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        for selection, group in group_by_selection(selected, len(queries)):
            count = self._count if selection is None else selection.count
            if count:
                vectors = np.ascontiguousarray(queries[group], dtype=np.float32)
                for query, ranking in zip(
                    group, self._search_group(vectors, top_k, selection, count), strict=True
                ):
                    rankings[query] = ranking
        return rankings

    def _search_group(
        self, queries: NDArray[np.float32], top_k: int, selection: Selection | None, count: int
    ) -> list[Ranking]:
        limit = min(top_k + EXTRA_CANDIDATES, count)
        for breadth in (max(128, limit), MAX_CANDIDATES):
            found = self._search(queries, limit, selection, breadth)
            if all(len(ranking.rows) >= min(top_k, count) for ranking in found):
                return [ranking.first(top_k) for ranking in found]
        raise GenerationError(
            f"Milvus returns fewer than {min(top_k, count)} of {count} vectors in "
            f"{self._collection.name}: set CLEAR_MILVUS_INDEX_TYPE=FLAT, or lower top_k"
        )

    def _search(
        self, queries: NDArray[np.float32], limit: int, selection: Selection | None, breadth: int
    ) -> list[Ranking]:
        parameters = _search_parameters(self._collection.options.index_type, breadth)
        found = self._collection.call(
            "search",
            data=list(queries),
            limit=limit,
            filter=to_expression(selection.filter, self._fields) if selection else "",
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level=CONSISTENCY,
        )
        return [
            rank_candidates(
                np.array(hits.distances, np.float32),
                np.array(hits.ids, np.int64),
                limit,
            )
            for hits in found
        ]


def open_milvus(
    name: str,
    options: MilvusOptions | None,
    count: int,
    embedding_dim: int,
    fields: Fields = NO_FIELDS,
) -> MilvusIndex:
    """Open the collection of a generation; load it into the servers' memory if need be.

    Args:
        name: the generation's.
        options: the Milvus server.
        count: number of vectors that the collection must hold.
        embedding_dim: length of a vector.
        fields: metadata that searches filter by.

    Raises:
        GenerationError: there is no such collection, or it is not complete.
        DeviceError: Milvus cannot be reached.
    """
    collection = open_collection(name, options)
    if not collection.exists:
        raise GenerationError(
            f"Milvus has no collection {collection.name}: run `clear-service index push` with the "
            "same settings, or leave CLEAR_INDEX_BACKEND out"
        )
    collection.load(count)
    return MilvusIndex(collection, count, embedding_dim, fields)


def _search_parameters(index_type: str, candidates: int) -> dict[str, int]:
    """Return the search parameters that make Milvus examine so many candidates."""
    if "IVF" in index_type or index_type == "SCANN":
        return {"nprobe": min(candidates // 2, 4096)}
    if index_type == "HNSW":
        return {"ef": candidates}
    return {}
