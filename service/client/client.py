"""A client of a running service, blocking (`Client`) and for asyncio (`AsyncClient`).

Lists of any length are cut into requests within the service's limits. A busy or starting service,
and a lost connection, are asked again: after Retry-After where it is sent, else after pauses that
grow. Nothing of the server is imported.
"""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, Unpack

import httpx2

from service.client.messages import (
    Embeddings,
    Patience,
    Role,
    SearchOptions,
    SearchResult,
    encode_bodies,
    read_embeddings,
    read_results,
    search_bodies,
)


class Client:
    """Asks a service; may be shared by threads. Once it is dropped, its connections are closed.

    All requests raise `service.client.messages.ProblemError` where the service refuses, and
    `UnreachableError` where none answers.
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
        """Open no connection yet.

        Args:
            url: of the service, without a path.
            api_key: is sent as `Authorization: Bearer`.
            timeout_seconds: patience with one try.
            max_retries: tries of one request after the first.
            max_wait_seconds: no try begins later than so long after the first.
            transport: in place of a connection.
            sleep: is called with the seconds of a pause.
        """
        self._http = httpx2.Client(
            base_url=url,
            headers=_headers(api_key),
            timeout=timeout_seconds,
            transport=transport,
        )
        self._close = weakref.finalize(self, self._http.close)
        self._patience = max_retries, max_wait_seconds
        self._sleep = sleep

    def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the passages that answer one question."""
        return self.search_many([query], **options)[0]

    def search_many(
        self, queries: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[SearchResult]:
        """Find those of many questions, in order."""
        answers = [self._post("/search", body) for body in search_bodies(queries, options)]
        return [result for answer in answers for result in read_results(answer)]

    def encode(self, texts: Sequence[str], role: Role) -> Embeddings:
        """Embed texts as queries or as passages, [B, D], unit norm."""
        return read_embeddings([self._post("/encode", body) for body in encode_bodies(texts, role)])

    def info(self) -> dict[str, Any]:
        """Tell what runs there."""
        return self._ask("GET", "/info", None)

    def close(self) -> None:
        """Close all connections."""
        self._close()

    def __enter__(self) -> Self:
        """Use the client in a block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it at the block's end."""
        self.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        patience = Patience(*self._patience)
        while True:
            try:
                response = self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                pause = patience.after_error(error)
            else:
                if response.is_success:
                    return dict(response.json())
                pause = patience.after_refusal(response)
            self._sleep(pause)


class AsyncClient:
    """The same for asyncio; see `Client`."""

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
        """Take what `Client` takes."""
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=_headers(api_key),
            timeout=timeout_seconds,
            transport=transport,
        )
        self._patience = max_retries, max_wait_seconds
        self._sleep = sleep

    async def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Find the passages that answer one question."""
        return (await self.search_many([query], **options))[0]

    async def search_many(
        self, queries: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[SearchResult]:
        """Find those of many questions, in order."""
        answers = [await self._post("/search", body) for body in search_bodies(queries, options)]
        return [result for answer in answers for result in read_results(answer)]

    async def encode(self, texts: Sequence[str], role: Role) -> Embeddings:
        """Embed texts as queries or as passages, [B, D], unit norm."""
        bodies = encode_bodies(texts, role)
        return read_embeddings([await self._post("/encode", body) for body in bodies])

    async def info(self) -> dict[str, Any]:
        """Tell what runs there."""
        return await self._ask("GET", "/info", None)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Use the client in a block."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it at the block's end."""
        await self.close()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        patience = Patience(*self._patience)
        while True:
            try:
                response = await self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                pause = patience.after_error(error)
            else:
                if response.is_success:
                    return dict(response.json())
                pause = patience.after_refusal(response)
            await self._sleep(pause)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
