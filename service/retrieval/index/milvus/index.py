"""The Milvus backend: one collection a generation, for an index that outgrows one machine.

A generation keeps its files; its vectors and fields are loaded into a collection of its own name,
counted and asked for again before the alias is set on it. A service searches the collection of the
generation that it opened, not the alias: passages and vectors never mix.
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
    best_first,
    by_selection,
    empty_ranking,
)
from service.retrieval.index.milvus.collection import CONSISTENCY, Collection, collection_of
from service.retrieval.index.milvus.filter import expression
from service.retrieval.index.options import MilvusOptions

MAX_CANDIDATES = 16_384


class MilvusIndex:
    """One loaded collection behind the protocol `VectorIndex`.

    Filters run in Milvus. They are exact with the index types FLAT and GPU_BRUTE_FORCE; with
    another they are as good as it is, and a ranking that comes back short is asked for again with
    more candidates.
    """

    def __init__(
        self, collection: Collection, count: int, embedding_dim: int, fields: Fields
    ) -> None:
        """Take over a collection that is loaded and complete."""
        self._collection = collection
        self._count = count
        self._embedding_dim = embedding_dim
        self._fields = fields

    @property
    def count(self) -> int:
        """Count the vectors."""
        return self._count

    @property
    def embedding_dim(self) -> int:
        """Tell the length of a vector."""
        return self._embedding_dim

    def search(
        self, queries: NDArray[np.float32] | Tensor, top_k: int, selected: Selected = None
    ) -> list[Ranking]:
        """Find each query's nearest vectors; arguments as `VectorIndex.search` has them.

        Raises:
            GenerationError: Milvus cannot be asked, or finds fewer than there are.
        """
        rankings = [empty_ranking()] * len(queries)
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        for selection, group in by_selection(selected, len(queries)):
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
            found = self._ask(queries, limit, selection, breadth)
            if all(len(ranking.rows) >= min(top_k, count) for ranking in found):
                return [ranking.first(top_k) for ranking in found]
        raise GenerationError(
            f"Milvus finds fewer than {min(top_k, count)} of {count} vectors in "
            f"{self._collection.name}: use CLEAR_MILVUS_INDEX_TYPE=FLAT, or ask for less"
        )

    def _ask(
        self, queries: NDArray[np.float32], limit: int, selection: Selection | None, breadth: int
    ) -> list[Ranking]:
        parameters = _breadth(self._collection.options.index_type, breadth)
        found = self._collection.ask(
            "search",
            data=list(queries),
            limit=limit,
            filter=expression(selection.filter, self._fields) if selection else "",
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level=CONSISTENCY,
        )
        return [
            best_first(
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
    collection = collection_of(name, options)
    if not collection.is_there:
        raise GenerationError(
            f"Milvus has no collection {collection.name}: run `clear-service index push` with the "
            "same settings, or leave CLEAR_INDEX_BACKEND out"
        )
    collection.load(count)
    return MilvusIndex(collection, count, embedding_dim, fields)


def _breadth(index_type: str, candidates: int) -> dict[str, int]:
    """Say how much a search looks at."""
    if "IVF" in index_type or index_type == "SCANN":
        return {"nprobe": min(candidates // 2, 4096)}
    if index_type == "HNSW":
        return {"ef": candidates}
    return {}
