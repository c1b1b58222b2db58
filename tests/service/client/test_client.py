"""The client against a real service, and against a transport with prepared answers."""

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import httpx2
import numpy as np
import pytest

from service.api import schemas, search_answers, search_schemas
from service.client import (
    AsyncClient,
    Client,
    ProblemError,
    SearchResult,
    UnreachableError,
    messages,
    results,
)
from service.retrieval.encoder.encoder import Encoder
from service.settings.settings import Settings
from tests.conftest import run_script

QUERIES = ["Where does tea grow?", "肯尼亚的首都", "سؤال"]
PROBLEM = {"type": "x", "title": "Busy", "status": 429, "detail": "the queue is full"}
FOUND = {
    "results": [{"language": "en", "hits": []}],
    "index": {"generation": "a", "passages": 1},
    "encoder": "e",
    "took_ms": {},
}


@pytest.fixture
def real(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


class Stub:
    """A transport with prepared responses that records requests and pauses."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else httpx2.Response(200, json=FOUND)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def search(self, **options: Any) -> Any:
        transport = httpx2.MockTransport(self)
        with Client("http://x", transport=transport, sleep=self.pauses.append, **options) as client:
            return client.search("tea")

    def search_by_asyncio(self, **options: Any) -> Any:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        async def ask() -> Any:
            transport = httpx2.MockTransport(self)
            async with AsyncClient("http://x", transport=transport, sleep=sleep, **options) as it:
                return await it.search("tea")

        return asyncio.run(ask())


WAYS = pytest.mark.parametrize("search", [Stub.search, Stub.search_by_asyncio])


def busy(**headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(429, headers=names, json=PROBLEM)


def test_hits_are_those_of_the_service(real: Client, address: str) -> None:
    body = {"query": QUERIES[0], "top_k": 3, "language": "en"}
    answer = httpx2.post(f"{address}/search", json=body).json()

    found = real.search(QUERIES[0], top_k=3, language="en")

    folded = ("duplicates", "duplicate_ids", "more_chunks")
    names = (*folded, "document_id", "start", "end", "evidence")
    absent = dict.fromkeys(names)
    assert [vars_of(hit) for hit in found.hits] == [
        {**absent, **hit} for hit in answer["results"][0]["hits"]
    ]
    assert (found.language, found.encoder) == ("en", answer["encoder"])
    assert found.generation == answer["index"]["generation"]
    assert found.num_passages == 12
    assert found.language_quality == answer["results"][0]["language_quality"]
    assert [real.search(text).language_uncertain for text in ("tea", "How do you make tea?")] == [
        True,
        False,
    ]
    assert [real.search(text).truncated for text in ("tea", "tea " * 200)] == [False, True]


def vars_of(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def test_many_queries_are_split_into_requests_and_come_back_in_order(real: Client) -> None:
    queries = [f"{QUERIES[number % 3]} {number}" for number in range(150)]

    found = real.search_many(queries, top_k=1)

    alone = [real.search(query, top_k=1) for query in (queries[0], queries[64], queries[149])]
    chosen = [found[number] for number in (0, 64, 149)]
    assert len(found) == 150
    assert [ids(each) for each in chosen] == [ids(each) for each in alone]
    scores = [each.hits[0].score for each in chosen]
    assert scores == pytest.approx([each.hits[0].score for each in alone], abs=1e-5)


def ids(found: SearchResult) -> list[str]:
    return [hit.passage_id for hit in found.hits]


def test_embeddings_are_those_of_the_encoder(real: Client, tiny_encoder: Encoder) -> None:
    texts = [f"{QUERIES[number % 3]} {number}" for number in range(300)]

    found = real.encode(texts, "passage")

    np.testing.assert_allclose(found, tiny_encoder.encode(texts, "passage").embeddings, atol=1e-5)
    assert found.dtype == np.float32
    assert real.encode([], "query").shape == (0, 0)


def test_a_passage_and_others_like_it_are_found_by_its_id(real: Client, address: str) -> None:
    async def ask() -> tuple[Any, Any]:
        async with AsyncClient(address) as client:
            return await client.passage("kenya.1"), await client.more_like("kenya.1", top_k=3)

    passage = real.passage("kenya.1")
    found = real.more_like("kenya.1", top_k=3, fold="duplicates", language=None)

    assert (passage.text, passage.metadata) == ("Nairobi is the capital of Kenya.", {"page": 1})
    assert "kenya.1" not in ids(found)
    assert [hit.duplicates for hit in found.hits] == [0, 0, 0]
    for name in ("a/b c", ".", ".."):
        with pytest.raises(ProblemError, match="Unknown passage"):
            real.passage(name)
    with pytest.raises(ProblemError, match="Unknown document"):
        real.document("..")
    again, like_it = asyncio.run(ask())
    assert (again, ids(like_it)) == (passage, ids(found))


def test_asyncio_gets_the_same(real: Client, address: str) -> None:
    async def ask() -> tuple[Any, Any, Any]:
        async with AsyncClient(address) as client:
            return (
                await client.search_many(QUERIES, top_k=2),
                await client.encode(QUERIES, "query"),
                await client.info(),
            )

    results, embeddings, info = asyncio.run(ask())

    expected = real.search_many(QUERIES, top_k=2)
    assert [ids(each) for each in results] == [ids(each) for each in expected]
    scores, expected_scores = (
        [[hit.score for hit in each.hits] for each in found] for found in (results, expected)
    )
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)  # batches differ in shape
    np.testing.assert_allclose(embeddings, real.encode(QUERIES, "query"), atol=1e-6)
    assert info == real.info()


def test_a_refusal_names_status_field_and_request(real: Client) -> None:
    with pytest.raises(ProblemError, match="422 Invalid request: top_k") as caught:
        real.search("tea", top_k=5000)

    assert (caught.value.status, caught.value.field) == (422, "top_k")
    assert caught.value.request_id


@WAYS
def test_a_busy_service_is_retried_after_retry_after(search: Callable[..., Any]) -> None:
    stub = Stub(busy(Retry_After="3"), httpx2.Response(503, headers={"Retry-After": "7"}))

    assert search(stub).encoder == "e"
    assert stub.pauses == [3.0, 7.0]
    assert len({request.content for request in stub.requests}) == 1


@WAYS
def test_without_retry_after_pauses_grow(search: Callable[..., Any]) -> None:
    stub = Stub(*[busy() for _ in range(4)])

    search(stub)

    for number, pause in enumerate(stub.pauses):
        assert 0.125 * 2**number <= pause <= 0.25 * 2**number


@WAYS
def test_a_lost_connection_is_retried(search: Callable[..., Any]) -> None:
    request = httpx2.Request("POST", "http://x/search")
    stub = Stub(httpx2.ConnectError("refused", request=request))

    assert search(stub).encoder == "e"
    assert len(stub.requests) == 2


@WAYS
def test_retries_end_with_their_number(search: Callable[..., Any]) -> None:
    stub = Stub(*[busy(Retry_After="0") for _ in range(9)])

    with pytest.raises(ProblemError, match="429 Busy: the queue is full") as caught:
        search(stub, max_retries=2)

    assert len(stub.requests) == 3
    assert caught.value.retry_after_seconds == 0


@WAYS
def test_a_pause_beyond_the_longest_wait_is_not_started(search: Callable[..., Any]) -> None:
    stub = Stub(busy(Retry_After="61"))

    with pytest.raises(ProblemError):
        search(stub)

    assert (len(stub.requests), stub.pauses) == (1, [])


def read_seconds(stub: Stub) -> float:
    return float(stub.requests[-1].extensions["timeout"]["read"])


def encoded() -> httpx2.Response:
    return httpx2.Response(200, json={"embeddings": []})


@pytest.mark.parametrize(("characters", "seconds"), [(0, 30), (500, 31), (100_000, 230)])
def test_the_time_to_wait_for_an_answer_grows_with_the_texts_to_encode(
    characters: int, seconds: float
) -> None:
    stub, stub_of_asyncio = Stub(encoded()), Stub(encoded())
    texts = ["a" * (characters // 4)] * 4

    async def ask() -> None:
        transport = httpx2.MockTransport(stub_of_asyncio)
        async with AsyncClient("http://x", transport=transport) as client:
            await client.encode(texts, "query")

    Client("http://x", transport=httpx2.MockTransport(stub)).encode(texts, "query")
    asyncio.run(ask())

    assert read_seconds(stub) == read_seconds(stub_of_asyncio) == seconds
    assert stub.requests[0].extensions["timeout"]["connect"] == 30


@pytest.mark.parametrize(("timeout_ms", "seconds"), [(None, 30), (1000, 30), (60_000, 65)])
def test_the_client_waits_for_as_long_as_the_service_may_take(
    timeout_ms: int | None, seconds: float
) -> None:
    stub = Stub()

    with Client("http://x", transport=httpx2.MockTransport(stub)) as client:
        client.search("tea", timeout_ms=timeout_ms)  # type: ignore[typeddict-item]

    assert read_seconds(stub) == seconds


def test_the_longest_wait_for_a_retry_grows_with_the_texts_to_encode() -> None:
    pauses: list[float] = []
    stub = Stub(busy(Retry_After="90"), encoded())
    transport = httpx2.MockTransport(stub)

    with Client("http://x", transport=transport, sleep=pauses.append) as client:
        client.encode(["a" * 20_000], "query")

    assert pauses == [90]


@WAYS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 504])
def test_a_permanent_refusal_is_raised_at_once(search: Callable[..., Any], status: int) -> None:
    stub = Stub(httpx2.Response(status, text="<html>"))

    with pytest.raises(ProblemError, match=f"{status} .*: the answer has no problem"):
        search(stub)

    assert len(stub.requests) == 1


@WAYS
def test_no_answer_at_all_names_the_address_and_not_the_query(search: Callable[..., Any]) -> None:
    request = httpx2.Request("POST", "http://x/search")
    stub = Stub(*[httpx2.ReadTimeout("timed out", request=request)])

    with pytest.raises(UnreachableError, match="no answer from http://x/search: ReadTimeout"):
        search(stub)

    assert len(stub.requests) == 1  # the service may still be working on it


def test_the_key_is_sent_and_none_is_no_header() -> None:
    with_key, without = Stub(), Stub()

    with_key.search(api_key="secret")
    without.search()

    assert with_key.requests[0].headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in without.requests[0].headers


class ClosableTransport(httpx2.MockTransport):
    """A transport that records whether it is closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_a_client_that_is_dropped_leaves_no_connection_open() -> None:
    transport = ClosableTransport(Stub())
    client = Client("http://x", transport=transport)
    client.search("tea", top_k=1)
    assert not transport.is_closed

    del client
    gc.collect()

    assert transport.is_closed


def test_an_option_of_none_is_left_out() -> None:
    [body] = messages.search_bodies(["tea"], {"filter": None, "top_k": 3})

    assert body == {"queries": ["tea"], "top_k": 3}


def test_long_texts_are_split_into_bodies_below_the_service_s_limit() -> None:
    texts = ["\U0001f600" * 32_768, "\x01" * 32_768] * 10

    bodies = list(messages.encode_bodies(texts, "query"))

    assert [len(body["texts"]) for body in bodies] == [7, 7, 6]
    sizes = [len(json.dumps(body, ensure_ascii=False).encode()) for body in bodies]
    assert max(sizes) < Settings().max_body_bytes


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), ("0", 0), ("Thu, 01 Jan 2026 00:00:00 GMT", 0), ("soon", None), ("-1", None)],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert messages.retry_after_seconds(busy(Retry_After=value)) == seconds


def test_the_client_s_limits_and_records_are_those_of_the_service() -> None:
    assert messages.MAX_CHARACTERS == schemas.MAX_CHARACTERS
    assert messages.MAX_QUERIES == search_schemas.MAX_QUERIES
    assert messages.MAX_TEXTS == schemas.MAX_TEXTS
    options = set(messages.SearchOptions.__annotations__)
    assert options == set(search_schemas.SearchRequest.model_fields) - set(search_schemas.SOURCES)
    for ours, theirs in (
        (results.Evidence, search_answers.Evidence),
        (results.Hit, search_answers.Hit),
        (results.Facet, search_answers.Facet),
        (results.FacetValue, search_answers.FacetValue),
    ):
        assert {field.name for field in fields(ours)} == set(theirs.model_fields)


def test_the_client_imports_nothing_of_the_server() -> None:
    done = run_script(
        "import sys, service.client\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'fastapi', 'pydantic', 'transformers', 'faiss', 'pyarrow'}))"
    )

    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
