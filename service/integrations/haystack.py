"""A retriever for Haystack pipelines (extra `haystack`)."""

from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret, deserialize_secrets_inplace

from service.client import Client


@component
class ClearRetriever:
    """Searches a running service; pipelines with it can be written to YAML and read back."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: Secret | None = None,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        min_score: float | None = None,
    ) -> None:
        """Open no connection yet; `filters` are those of `/search`."""
        self.url = url
        self.api_key = api_key
        self.top_k = top_k
        self.filters = filters
        self.min_score = min_score
        self._client = Client(url, api_key.resolve_value() if api_key else None)

    def to_dict(self) -> dict[str, Any]:
        """Write the component down; a key only by the name of its variable."""
        return default_to_dict(
            self,
            url=self.url,
            api_key=self.api_key.to_dict() if self.api_key else None,
            top_k=self.top_k,
            filters=self.filters,
            min_score=self.min_score,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ClearRetriever":
        """Read it back."""
        deserialize_secrets_inplace(data["init_parameters"], ["api_key"])
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """Find the passages that answer a question; what is given here comes first."""
        found = self._client.search(
            query,
            top_k=top_k or self.top_k,
            filter=filters or self.filters,
            min_score=self.min_score,
        )
        documents = [
            Document(
                id=hit.passage_id,
                content=hit.text,
                meta={**hit.metadata, "title": hit.title},
                score=hit.score,
            )
            for hit in found.hits
        ]
        return {"documents": documents}
