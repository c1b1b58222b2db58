"""A retriever for LlamaIndex (extra `llama-index`)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from service.client import Client


class ClearRetriever(BaseRetriever):
    """Retrieves nodes from a running service; `aretrieve` searches in another thread."""

    def __init__(
        self,
        client: Client,
        top_k: int = 10,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        min_relevance: float | None = None,
        **options: Any,
    ) -> None:
        """Create the retriever.

        Args:
            client: of the service.
            top_k: maximum number of nodes.
            filter: conditions on declared fields, as in `/search`.
            min_score: nodes with a lower score are omitted.
            min_relevance: nodes with a lower relevance are omitted.
            options: of LlamaIndex's `BaseRetriever`.
        """
        super().__init__(**options)
        self._client = client
        self._top_k = top_k
        self._filter = filter
        self._min_score = min_score
        self._min_relevance = min_relevance

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._client.search(
            query_bundle.query_str,
            top_k=self._top_k,
            filter=self._filter,
            min_score=self._min_score,
            min_relevance=self._min_relevance,
        )
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.passage_id,
                    text=hit.text or "",
                    metadata={**hit.metadata, "title": hit.title, "relevance": hit.relevance},
                ),
                score=hit.score,
            )
            for hit in found.hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
