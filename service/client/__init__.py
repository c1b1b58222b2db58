"""The Python client of the service; imports nothing of the server."""

from service.client.client import AsyncClient, Client
from service.client.documents import Change, Document, Passage, as_document
from service.client.messages import (
    MAX_CHARACTERS,
    ClientError,
    Embeddings,
    ProblemError,
    Role,
    SearchOptions,
    UnreachableError,
)
from service.client.results import Evidence, Facet, FacetValue, Hit, SearchResult

__all__ = [
    "MAX_CHARACTERS",
    "AsyncClient",
    "Change",
    "Client",
    "ClientError",
    "Document",
    "Embeddings",
    "Evidence",
    "Facet",
    "FacetValue",
    "Hit",
    "Passage",
    "ProblemError",
    "Role",
    "SearchOptions",
    "SearchResult",
    "UnreachableError",
    "as_document",
]
