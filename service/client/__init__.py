"""The Python client of the service; imports nothing of the server."""

from service.client.client import AsyncClient, Client
from service.client.messages import (
    MAX_CHARACTERS,
    ClientError,
    Embeddings,
    Facet,
    FacetValue,
    Hit,
    Passage,
    ProblemError,
    Role,
    SearchOptions,
    SearchResult,
    UnreachableError,
)

__all__ = [
    "MAX_CHARACTERS",
    "AsyncClient",
    "Client",
    "ClientError",
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
]
