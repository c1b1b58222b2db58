"""A retriever and a vector store for LangChain (extra `langchain`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from service.client import Client, Hit, ProblemError, as_document


class ClearRetriever(BaseRetriever):
    """Retrieves documents from a running service; `ainvoke` searches in another thread.

    Attributes:
        client: of the service.
        top_k: maximum number of documents.
        filter: conditions on declared fields, as in `/search`.
        min_score: documents with a lower score are omitted.
        min_relevance: documents with a lower relevance are omitted.
        options: further ones of `/search`, such as `fold` and `group`.
    """

    client: Client
    top_k: int = 10
    filter: Mapping[str, Any] | None = None
    min_score: float | None = None
    min_relevance: float | None = None
    options: Mapping[str, Any] = {}

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = self.client.search(
            query,
            top_k=self.top_k,
            filter=self.filter,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
            **{"evidence": True, **self.options},
        )
        return [_document_of(hit, _judgment_of(hit)) for hit in found.hits]


class ClearVectorStore(VectorStore):
    """The documents of a running service, which encodes them: added, deleted, read and searched."""

    def __init__(self, client: Client) -> None:
        """Keep the client; its key needs the scopes `search` and `write`."""
        self._client = client

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add texts to the service of the argument `client`, which needs no embeddings."""
        store = cls(kwargs["client"])
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        wait: bool = True,
        **kwargs: Any,
    ) -> list[str]:
        """Put documents in place of any with their ids, and wait until they are live.

        Args:
            texts: of any length; the service splits long ones.
            metadatas: of each text; `title` is the document's title.
            ids: of each text; by default new ones.
            wait: false returns when the changes are on the service's disk.
            kwargs: are ignored.
        """
        texts = list(texts)
        names = [name or str(uuid4()) for name in ids or [None] * len(texts)]
        rows = zip(names, texts, metadatas or [{}] * len(texts), strict=True)
        for change in self._client.change_documents([as_document(*row) for row in rows], wait=wait):
            change.raise_if_refused()
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids, and wait until they are gone."""
        if ids is None:
            raise ValueError("name the documents: a service's documents are not all deleted")
        for change in self._client.change_documents(delete=ids, wait=True):
            change.raise_if_refused()
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that are live, without those that are not."""
        found = []
        for name in ids:
            try:
                document = self._client.document(name).document
            except ProblemError as error:
                if error.status != 404:
                    raise
                continue
            if document:
                metadata = {**document["metadata"], "title": document["title"]}
                found.append(Document(id=name, page_content=document["text"], metadata=metadata))
        return found

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Find the passages that answer a query; further options are those of `/search`."""
        return [_document_of(hit) for hit in self._client.search(query, top_k=k, **options).hits]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Find the passages that answer a query, and their cosines."""
        hits = self._client.search(query, top_k=k, **options).hits
        return [(_document_of(hit), hit.score) for hit in hits]


def _judgment_of(hit: Hit) -> dict[str, Any]:
    evidence = hit.evidence and asdict(hit.evidence)
    return {
        "score": hit.score,
        "relevance": hit.relevance,
        "evidence": evidence,
        "matched": hit.matched,
    }


def _document_of(hit: Hit, further: Mapping[str, Any] = {}) -> Document:
    metadata = {**hit.metadata, "title": hit.title, **further}
    return Document(id=hit.passage_id, page_content=hit.text or "", metadata=metadata)
