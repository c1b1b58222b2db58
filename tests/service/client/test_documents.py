import asyncio
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from service.client import AsyncClient, Change, Client, ClientError, Document, Passage
from service.client.documents import (
    MAX_DOCUMENTS,
    change_bodies,
    document_path,
    passage_path,
    read_passage,
)

ANSWER = {"change": 3, "state": "applied", "generation": "g", "reason": None}
LIVE = {"id": "a/b", "title": "", "text": "t", "metadata": {}}
READ = {
    "document": LIVE,
    "waiting": {"change": 4, "deletes": True},
    "index": {"generation": "g", "passages": 1},
}


class Service:
    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json=READ if request.url.path == "/documents/a/b" else ANSWER)


def by_threads(service: Service) -> tuple[Any, ...]:
    with Client("http://x", transport=httpx2.MockTransport(service)) as client:
        changes = client.change_documents([{"id": "a", "text": "t"}], ["b"], wait=True)
        return changes, client.change(3), client.document("a/b")


def by_asyncio(service: Service) -> tuple[Any, ...]:
    async def ask() -> tuple[Any, ...]:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            changes = await client.change_documents([{"id": "a", "text": "t"}], ["b"], wait=True)
            return changes, await client.change(3), await client.document("a/b")

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [by_threads, by_asyncio])
def test_documents_are_changed_and_read(ask: Any) -> None:
    service = Service()

    changes, change, document = ask(service)

    expected = Change(3, "applied", "g", None)
    assert (changes, change) == ([expected], expected)
    assert document == Document(LIVE, 4, "g")
    assert [(each.method, each.url.raw_path) for each in service.requests] == [
        ("POST", b"/documents"),
        ("GET", b"/changes/3"),
        ("GET", b"/documents/a%2Fb"),
    ]
    assert service.requests[0].read() == (
        b'{"put":[{"id":"a","text":"t"}],"delete":["b"],"wait":true}'
    )


def test_changes_are_split_in_their_order() -> None:
    put = [{"id": str(number), "text": "t"} for number in range(MAX_DOCUMENTS + 1)]
    long = [{"id": "l", "text": "x" * 300_000}]

    bodies = list(change_bodies([*put, *long], ["a", "b"], {}))

    assert [(len(body["put"]), len(body["delete"])) for body in bodies] == [
        (MAX_DOCUMENTS, 0),
        (1, 0),
        (1, 0),
        (0, 2),
    ]
    assert list(change_bodies([], [], {"wait": True})) == []


def test_a_refused_change_is_raised_with_its_reason() -> None:
    Change(3, "applied", "g", None).raise_if_refused()

    with pytest.raises(ClientError, match=r"change 3 was refused: put\[0\]"):
        Change(3, "refused", None, "put[0] ...").raise_if_refused()


def test_a_change_is_waited_for_as_long_as_is_said() -> None:
    bodies = change_bodies([{"id": "a", "text": "t"}], [], {"wait": True, "timeout_ms": 60_000})

    assert [(body["wait"], body["timeout_ms"]) for body in bodies] == [(True, 60_000)]


def test_a_chunk_says_where_it_is_from() -> None:
    place = {"document_id": "a", "start": 5, "end": 6}
    answer = {"passage_id": "a#2", "title": "", "text": "t", "metadata": {}, "index": {}}

    assert read_passage(answer | place) == Passage("a#2", "", "t", {}, "a", 5, 6)
    assert read_passage(answer) == Passage("a#2", "", "t", {})


@pytest.mark.parametrize("name", [".", "..", "...", "a.b", "../a", "%2E"])
def test_an_id_of_dots_is_no_step_in_a_path(name: str) -> None:
    client = httpx2.Client(base_url="http://x")
    for path, folder in [(document_path, "documents"), (passage_path, "passages")]:
        sent = client.build_request("GET", path(name)).url.raw_path.decode()

        assert unquote(sent) == f"/{folder}/{name}"
