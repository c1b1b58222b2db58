"""A retriever and an index for LlamaIndex (extra `llama-index`)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.indices.managed.base import BaseManagedIndex
from llama_index.core.schema import (
    BaseNode,
    Document,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from service.client import Client, as_document


class ClearRetriever(BaseRetriever):
    """Retrieves nodes from a running service; `aretrieve` searches in another thread."""

    def __init__(
        self,
        client: Client,
        top_k: int = 10,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        min_relevance: float | None = None,
        search_options: Mapping[str, Any] = {},
        **options: Any,
    ) -> None:
        """Create the retriever.

        Args:
            client: of the service.
            top_k: maximum number of nodes.
            filter: conditions on declared fields, as in `/search`.
            min_score: nodes with a lower score are omitted.
            min_relevance: nodes with a lower relevance are omitted.
            search_options: further ones of `/search`, such as `fold` and `group`.
            options: of LlamaIndex's `BaseRetriever`.
        """
        super().__init__(**options)
        self._client = client
        self._top_k = top_k
        self._filter = filter
        self._min_score = min_score
        self._min_relevance = min_relevance
        self._search_options = search_options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._client.search(
            query_bundle.query_str,
            top_k=self._top_k,
            filter=self._filter,
            min_score=self._min_score,
            min_relevance=self._min_relevance,
            **{"evidence": True, **self._search_options},
        )
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.passage_id,
                    text=hit.text or "",
                    metadata={
                        **hit.metadata,
                        "title": hit.title,
                        "relevance": hit.relevance,
                        "evidence": hit.evidence and asdict(hit.evidence),
                        "matched": hit.matched,
                    },
                ),
                score=hit.score,
            )
            for hit in found.hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class ClearIndex(BaseManagedIndex):
    """The documents of a running service, which splits and encodes them: inserted and deleted."""

    def __init__(self, client: Client) -> None:
        """Keep the client; its key needs the scopes `search` and `write`."""
        super().__init__(index_struct=IndexDict())
        self._client = client

    def insert(self, document: Document, **insert_kwargs: Any) -> None:
        """Put a document in place of any with its id, and wait until it is live."""
        self._insert([document])

    def delete_ref_doc(
        self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any
    ) -> None:
        """Delete a document by its id, and wait until it is gone."""
        for change in self._client.change_documents(delete=[ref_doc_id], wait=True):
            change.raise_if_refused()

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Put a document in place of the one with its id."""
        self._insert([document])

    def as_retriever(self, **kwargs: Any) -> ClearRetriever:
        """Return a `ClearRetriever` with these arguments."""
        return ClearRetriever(self._client, **kwargs)

    def _insert(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        put = [
            as_document(node.node_id, node.get_content(MetadataMode.NONE), node.metadata)
            for node in nodes
        ]
        for change in self._client.change_documents(put, wait=True):
            change.raise_if_refused()
