"""A retriever for LangChain (extra `langchain`)."""

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from service.client import Client


class ClearRetriever(BaseRetriever):
    """Retrieves documents from a running service; `ainvoke` searches in another thread.

    Attributes:
        client: of the service.
        top_k: maximum number of documents.
        filter: conditions on declared fields, as in `/search`.
        min_score: documents with a lower score are omitted.
        min_relevance: documents with a lower relevance are omitted.
    """

    client: Client
    top_k: int = 10
    filter: Mapping[str, Any] | None = None
    min_score: float | None = None
    min_relevance: float | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = self.client.search(
            query,
            top_k=self.top_k,
            filter=self.filter,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
        )
        return [
            Document(
                id=hit.passage_id,
                page_content=hit.text or "",
                metadata={
                    **hit.metadata,
                    "title": hit.title,
                    "score": hit.score,
                    "relevance": hit.relevance,
                },
            )
            for hit in found.hits
        ]
