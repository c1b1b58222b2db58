"""A retriever and a writer for Haystack pipelines (extra `haystack`)."""

from dataclasses import asdict
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret, deserialize_secrets_inplace

from service.client import Client, as_document


@component
class ClearRetriever:
    """Retrieves documents from a running service; pipelines with it can be serialized to YAML."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: Secret | None = None,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        min_score: float | None = None,
        min_relevance: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Create the component; it connects at the first search.

        Args:
            url: of the service.
            api_key: sent with each request.
            top_k: maximum number of documents.
            filters: conditions on declared fields, as in `/search`.
            min_score: documents with a lower score are omitted.
            min_relevance: documents with a lower relevance are omitted.
            options: further ones of `/search`, such as `fold` and `group`.
        """
        self.url = url
        self.api_key = api_key
        self.top_k = top_k
        self.filters = filters
        self.min_score = min_score
        self.min_relevance = min_relevance
        self.options = options
        self._client = Client(url, api_key.resolve_value() if api_key else None)

    def to_dict(self) -> dict[str, Any]:
        """Serialize the component; the key is stored only as the name of its variable."""
        return default_to_dict(
            self,
            url=self.url,
            api_key=self.api_key.to_dict() if self.api_key else None,
            top_k=self.top_k,
            filters=self.filters,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
            options=self.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ClearRetriever":
        """Create the component that `to_dict` serialized."""
        deserialize_secrets_inplace(data["init_parameters"], ["api_key"])
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """Find the passages that answer a query; arguments override those of the component."""
        found = self._client.search(
            query,
            top_k=top_k or self.top_k,
            filter=filters or self.filters,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
            **{"evidence": True, **(self.options or {})},
        )
        documents = [
            Document(
                id=hit.passage_id,
                content=hit.text,
                meta={
                    **hit.metadata,
                    "title": hit.title,
                    "relevance": hit.relevance,
                    "evidence": hit.evidence and asdict(hit.evidence),
                    "matched": hit.matched,
                },
                score=hit.score,
            )
            for hit in found.hits
        ]
        return {"documents": documents}


@component
class ClearWriter:
    """Puts documents into a running service, which splits and encodes them."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: Secret | None = None,
        wait: bool = True,
    ) -> None:
        """Create the component; it connects at the first run.

        Args:
            url: of the service.
            api_key: sent with each request; it needs the scope `write`.
            wait: until the documents are live; false returns when the service's disk has them.
        """
        self.url = url
        self.api_key = api_key
        self.wait = wait
        self._client = Client(url, api_key.resolve_value() if api_key else None)

    def to_dict(self) -> dict[str, Any]:
        """Serialize the component; the key is stored only as the name of its variable."""
        api_key = self.api_key.to_dict() if self.api_key else None
        return default_to_dict(self, url=self.url, api_key=api_key, wait=self.wait)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ClearWriter":
        """Create the component that `to_dict` serialized."""
        deserialize_secrets_inplace(data["init_parameters"], ["api_key"])
        return default_from_dict(cls, data)

    @component.output_types(documents_written=int)
    def run(self, documents: list[Document]) -> dict[str, int]:
        """Put documents in place of any with their ids; `title` of a `meta` is their title."""
        put = [as_document(each.id, each.content or "", each.meta) for each in documents]
        for change in self._client.change_documents(put, wait=self.wait):
            change.raise_if_refused()
        return {"documents_written": len(put)}
