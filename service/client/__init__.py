"""The Python client of the service; imports nothing of the server."""

from service.client.client import AsyncClient, Client
from service.client.documents import Change, Document, Passage, as_document
from service.client.messages import (
    MAX_CHARACTERS,
    ClientError,
    Embeddings,
    Facet,
    FacetValue,
    Hit,
    ProblemError,
    Role,
    SearchOptions,
    SearchResult,
    UnreachableError,
)

__all__ = [
    "MAX_CHARACTERS",
    "AsyncClient",
    "Change",
    "Client",
    "ClientError",
    "Document",
    "Embeddings",
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
