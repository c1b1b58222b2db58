"""The client of a running service: blocking (`Client`) and for asyncio (`AsyncClient`).

Lists of any length are split into requests within the service's limits. A request to a service that
is busy or starting, or whose connection is lost, is retried: after Retry-After, else with back-off.
"""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, Unpack

import httpx2

from service.client.documents import (
    Change,
    ChangeOptions,
    Document,
    Documents,
    Ids,
    Passage,
    change_bodies,
    document_path,
    passage_path,
    read_change,
    read_document,
    read_passage,
)
from service.client.messages import (
    Embeddings,
    Role,
    SearchOptions,
    encode_bodies,
    more_like_body,
    read_embeddings,
    search_bodies,
)
from service.client.results import SearchResult, read_results
from service.client.retry import patience


class Client:
    """Sends requests to a service; threads may share it.

    Every request raises `ProblemError` if the service refuses it, and `UnreachableError` if there
    is no answer. Connections are closed when the client is garbage-collected.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        max_retries: int = 5,
        max_wait_seconds: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Configure the client; the first request opens a connection.

        Args:
            url: address of the service, without a path.
            api_key: key to send as `Authorization: Bearer`.
            timeout_seconds: timeout of one try. To wait for an answer, a second is added for every
                500 characters to encode; a longer `timeout_ms` counts, too.
            max_retries: how often one request is retried.
            max_wait_seconds: longest time from the first try to the last; grows likewise.
            transport: replaces the network, for tests.
            sleep: called with the seconds of each pause.
        """
        self._http = httpx2.Client(
            base_url=url,
            headers=_headers(api_key),
            transport=transport,
        )
        self._close = weakref.finalize(self, self._http.close)
        self._timeout_seconds = timeout_seconds
        self._limits = max_retries, max_wait_seconds
        self._sleep = sleep

    def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the best passages for one query."""
        return self.search_many([query], **options)[0]

    def search_many(
        self, queries: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[SearchResult]:
        """Find the best passages for many queries, in order."""
        answers = [self._post("/search", body) for body in search_bodies(queries, options)]
        return [result for answer in answers for result in read_results(answer)]

    def more_like(self, passage_id: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the passages that are most like one of the index."""
        return read_results(self._post("/search", more_like_body(passage_id, options)))[0]

    def passage(self, passage_id: str) -> Passage:
        """Return a passage of the index by its id."""
        return read_passage(self._ask("GET", passage_path(passage_id), None))

    def encode(self, texts: Sequence[str], role: Role) -> Embeddings:
        """Encode texts as queries or as passages, [B, D], unit norm."""
        return read_embeddings([self._post("/encode", body) for body in encode_bodies(texts, role)])

    def change_documents(
        self, put: Documents = (), delete: Ids = (), **options: Unpack[ChangeOptions]
    ) -> list[Change]:
        """Put documents (`id`, `text`, `title`, metadata) and delete others."""
        bodies = change_bodies(put, delete, options)
        return [read_change(self._post("/documents", body)) for body in bodies]

    def change(self, number: int) -> Change:
        """Return the state of a change."""
        return read_change(self._ask("GET", f"/changes/{number}", None))

    def document(self, document_id: str) -> Document:
        """Return a document of the index, and whether a change of it waits."""
        return read_document(self._ask("GET", document_path(document_id), None))

    def info(self) -> dict[str, Any]:
        """Return `/info`: version, encoder, index and limits of the service."""
        return self._ask("GET", "/info", None)

    def close(self) -> None:
        """Close all connections."""
        self._close()

    def __enter__(self) -> Self:
        """Return the client, for a `with` block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close all connections."""
        self.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        timeout, policy = patience(body, self._timeout_seconds, *self._limits)
        while True:
            try:
                response = self._http.request(method, path, json=body, timeout=timeout)
            except httpx2.TransportError as error:
                pause = policy.after_error(error)
            else:
                if response.is_success:
                    return dict(response.json())
                pause = policy.after_refusal(response)
            self._sleep(pause)


class AsyncClient:
    """Sends requests to a service with asyncio; see `Client`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        max_retries: int = 5,
        max_wait_seconds: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the arguments of `Client`."""
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=_headers(api_key),
            transport=transport,
        )
        self._timeout_seconds = timeout_seconds
        self._limits = max_retries, max_wait_seconds
        self._sleep = sleep

    async def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the best passages for one query."""
        return (await self.search_many([query], **options))[0]

    async def search_many(
        self, queries: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[SearchResult]:
        """Find the best passages for many queries, in order."""
        answers = [await self._post("/search", body) for body in search_bodies(queries, options)]
        return [result for answer in answers for result in read_results(answer)]

    async def more_like(self, passage_id: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the passages that are most like one of the index."""
        return read_results(await self._post("/search", more_like_body(passage_id, options)))[0]

    async def passage(self, passage_id: str) -> Passage:
        """Return a passage of the index by its id."""
        return read_passage(await self._ask("GET", passage_path(passage_id), None))

    async def encode(self, texts: Sequence[str], role: Role) -> Embeddings:
        """Encode texts as queries or as passages, [B, D], unit norm."""
        bodies = encode_bodies(texts, role)
        return read_embeddings([await self._post("/encode", body) for body in bodies])

    async def change_documents(
        self, put: Documents = (), delete: Ids = (), **options: Unpack[ChangeOptions]
    ) -> list[Change]:
        """Put documents (`id`, `text`, `title`, metadata) and delete others."""
        bodies = change_bodies(put, delete, options)
        return [read_change(await self._post("/documents", body)) for body in bodies]

    async def change(self, number: int) -> Change:
        """Return the state of a change."""
        return read_change(await self._ask("GET", f"/changes/{number}", None))

    async def document(self, document_id: str) -> Document:
        """Return a document of the index, and whether a change of it waits."""
        return read_document(await self._ask("GET", document_path(document_id), None))

    async def info(self) -> dict[str, Any]:
        """Return `/info`: version, encoder, index and limits of the service."""
        return await self._ask("GET", "/info", None)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client, for an `async with` block."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close all connections."""
        await self.close()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        timeout, policy = patience(body, self._timeout_seconds, *self._limits)
        while True:
            try:
                response = await self._http.request(method, path, json=body, timeout=timeout)
            except httpx2.TransportError as error:
                pause = policy.after_error(error)
            else:
                if response.is_success:
                    return dict(response.json())
                pause = policy.after_refusal(response)
            await self._sleep(pause)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
