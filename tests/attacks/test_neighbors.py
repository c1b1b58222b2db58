"""Faults that users of neighboring projects reported: what happens here in the same case.

Each test names the report, as repository#issue.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.attacks.victim import QUERY, Victim, head, request
from tests.conftest import write_passages

MODEL = "tiny-mean-0"
ORIGIN = "https://notes.example"
LARGEST = 2**53
RECORDS: list[dict[str, Any]] = [
    {"id": "one", "text": "The first price.", "price": 1, "good": True, "mood": "good"},
    {"id": "two", "text": "The second price.", "price": 2, "good": False, "mood": "bad"},
    {"id": "large", "text": "A large price.", "price": LARGEST - 1, "good": True},
    {"id": "largest", "text": "The largest price.", "price": LARGEST},
    {"id": "negative", "text": "The lowest price.", "price": -LARGEST},
    {"id": "bare", "text": "No price at all."},
]


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder, tiny_checkpoint: Path
) -> Iterator[TestClient]:
    """A service with declared fields, and one origin whose pages may call it."""
    folder = tmp_path_factory.mktemp("neighbors")
    passages = write_passages(folder / "passages.jsonl", RECORDS)
    fields = parse_fields(["price:number", "good:boolean", "mood:string"])
    build_index(read_passages(passages), folder / "index", tiny_encoder, fields=fields)
    settings = Settings(
        encoder=str(tiny_checkpoint), index=folder / "index", device="cpu", cors_origins=ORIGIN
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def embed(client: TestClient, *texts: str, **fields: object) -> np.ndarray:
    """Return the embeddings of texts by OpenAI's API."""
    body = {"model": MODEL, "input": list(texts), **fields}
    response = client.post("/v1/embeddings", json=body)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [each["index"] for each in data] == list(range(len(texts)))
    return np.array([each["embedding"] for each in data], np.float32)


def found(client: TestClient, **body: object) -> set[str]:
    """Return the ids of all hits."""
    response = client.post("/search", json={"query": "price", "top_k": 50, **body})
    assert response.status_code == 200, response.text
    return {hit["passage_id"] for hit in response.json()["results"][0]["hits"]}


def test_no_input_is_a_bad_field_and_not_too_large(client: TestClient) -> None:
    """huggingface/text-embeddings-inference#365: 413 for an empty list."""
    response = client.post("/v1/embeddings", json={"model": MODEL, "input": []})

    assert response.status_code == 422
    assert response.json()["error"]["param"] == "input"


def test_an_empty_text_among_others_is_named_by_its_position(client: TestClient) -> None:
    """openai/openai-python#576: one empty text fails the batch, and nobody knows which."""
    response = client.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "", "b"]})

    assert response.status_code == 422
    assert response.json()["error"]["param"] == "input[1]"


@pytest.mark.parametrize("texts", [["a", 5], [[1, 2], [3]], [5], ["a", None], ["a", ["b"]]])
def test_token_ids_and_other_values_among_texts_are_refused(
    client: TestClient, texts: list[object]
) -> None:
    """lm-sys/FastChat#2159: 500 for the token ids that LangChain sends."""
    response = client.post("/v1/embeddings", json={"model": MODEL, "input": texts})

    assert response.status_code == 422


def test_a_batch_with_repeated_and_long_texts_is_in_order(client: TestClient) -> None:
    """ollama/ollama#6187: a batch has the right vectors in the wrong places."""
    texts = ["tea", "coffee " * 60, "tea", "Lima", "rivers " * 20, "Lima", "tea"]
    together = embed(client, *texts)
    alone = np.concatenate([embed(client, text) for text in texts])

    assert np.abs(together - alone).max() < 1e-5


def test_a_long_text_leaves_the_vectors_of_later_texts_alone(client: TestClient) -> None:
    """ROCm/FastFlowLM#647: after a long text, all shorter ones have other vectors."""
    before = embed(client, "a short text")
    embed(client, "a long text " * 500)

    assert (embed(client, "a short text") == before).all()


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_text_of_exactly_the_encoder_s_limit_is_answered(
    client: TestClient, tiny_encoder: Encoder, extra: int
) -> None:
    """vllm-project/vllm#29496: a text of exactly the limit hangs for ever."""
    limit = 64
    prompt = len(tiny_encoder.tokenize(["tea"], "passage")[0].token_ids) - 1
    vector = embed(client, " ".join(["tea"] * (limit - prompt + extra)))

    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_more_dimensions_than_there_are_is_refused(client: TestClient) -> None:
    """ggml-org/llama.cpp#25210: `dimensions` is accepted and ignored."""
    body = {"model": MODEL, "input": "tea", "dimensions": 33}

    assert client.post("/v1/embeddings", json=body).status_code == 422
    assert embed(client, "tea", dimensions=8).shape == (1, 8)


def test_no_score_is_above_one(client: TestClient) -> None:
    """facebookresearch/faiss#915: the cosine of a text and itself is 1.0000001."""
    text = "Lima is the capital of Peru."
    hits = client.post("/search", json={"queries": [text] * 8, "top_k": 12}).json()["results"]

    assert max(hit["score"] for result in hits for hit in result["hits"]) <= 1


def test_more_hits_than_passages_are_all_passages(shop: TestClient) -> None:
    """facebookresearch/faiss#3711: rows of -1 with infinite distance fill the rest."""
    response = shop.post("/search", json={"query": "price", "top_k": 100})
    hits = response.json()["results"][0]["hits"]

    assert sorted(hit["passage_id"] for hit in hits) == sorted(each["id"] for each in RECORDS)
    assert all(math.isfinite(hit["score"]) for hit in hits)


def test_a_filter_that_selects_nothing_has_no_hits(shop: TestClient) -> None:
    """qdrant/qdrant#3805: a filter without a match takes seconds."""
    assert found(shop, filter={"mood": "nobody's"}) == set()


@pytest.mark.parametrize(
    ("bounds", "ids"),
    [
        ({"gte": 1.5, "lte": 2.5}, {"two"}),
        ({"gt": 0.5, "lt": 1.5}, {"one"}),
        ({"gte": LARGEST}, {"largest"}),
        ({"gt": LARGEST - 1}, {"largest"}),
        ({"gte": LARGEST - 1, "lt": LARGEST}, {"large"}),
        ({"lte": -LARGEST}, {"negative"}),
        ({"gt": -LARGEST, "lt": 1}, set()),
        ({"gte": 1e300}, set()),
        ({"lt": 1e-300, "gt": -1e-300}, set()),
    ],
)
def test_ranges_of_whole_numbers_hold_at_fractions_and_at_the_edges(
    shop: TestClient, bounds: dict[str, float], ids: set[str]
) -> None:
    """qdrant/qdrant#9049 and #8538: bounds are cut to integers, large ones rounded."""
    assert found(shop, filter={"price": bounds}) == ids


def test_a_passage_without_the_field_is_in_no_range(shop: TestClient) -> None:
    """milvus-io/milvus#41736: `field > 0` finds rows in which the field is null."""
    assert "bare" not in found(shop, filter={"price": {"gte": -1e308}})
    assert "bare" in found(shop, filter={"price": {"not": {"gte": -1e308}}})


def test_a_boolean_is_no_number_and_false_is_not_absent(shop: TestClient) -> None:
    """chroma-core/chroma#826: a filter by a boolean finds everything."""
    assert found(shop, filter={"good": True}) == {"one", "large"}
    assert found(shop, filter={"good": False}) == {"two"}
    for wrong in ({"good": 1}, {"good": "true"}, {"price": True}):
        assert shop.post("/search", json={"query": "a", "filter": wrong}).status_code == 422


def test_not_in_a_list_excludes_it(shop: TestClient) -> None:
    """chroma-core/chroma#1424: `$nin` returns all documents."""
    everything = {each["id"] for each in RECORDS}

    assert found(shop, filter={"mood": {"not": ["good"]}}) == everything - {"one"}
    assert found(shop, filter={"mood": ["good"]}) == {"one"}


@pytest.mark.parametrize(
    "query", ["{}()[]", '"', "'; select * from passages; --", "a:b AND (", "%"]
)
def test_signs_of_query_languages_are_text(shop: TestClient, query: str) -> None:
    """nuclia/nucliadb#388: brackets in a query are 500."""
    assert shop.post("/search", json={"query": query}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "a\x01b"}',
        b'{"query": "a\nb"}',
        b'{"query": "a", "query": "b"',
        b'{"query": "\\ud83d"}',
        b'{"query": "a", "filter": {"\\ud83d": 1}}',
        b'{"query": "a", "filter": {"mood": "\\ud83d"}}',
        b'{"query": "a", "facets": ["\\ud83d"]}',
        b'{"query": "a", "language": "\\ud83d"}',
        b'{"query": "a", "\\ud83d": 1}',
    ],
)
def test_control_characters_and_half_an_emoji_in_json_are_the_client_s_fault(
    shop: TestClient, body: bytes
) -> None:
    """fastapi/fastapi#1334, JustVugg/colibri#1589: a cut emoji is 500, and clients retry it."""
    response = shop.post("/search", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code in (400, 422)
    assert json.loads(response.content)["detail"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json;charset=UTF-8", 200),
        ('Application/JSON ; charset="utf-8"', 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 400),
        ("", 400),
    ],
)
def test_json_is_known_by_its_content_type(
    shop: TestClient, content_type: str, status: int
) -> None:
    """aws/chalice#180: JSON with a charset is not recognized."""
    headers = {"Content-Type": content_type}

    assert shop.post("/search", content=QUERY, headers=headers).status_code == status


def test_a_refused_text_leaves_the_service_at_work(victim: Victim) -> None:
    """michaelfeil/infinity#609: after one bad input all requests wait, and /health says 200."""
    for body in (b'{"query": "\\ud83d"}', b'{"query": ""}', b"[]", b'{"query": "a", "top_k": 0}'):
        assert victim.ask(body)[0] in (400, 422)

    assert victim.ask()[0] == 200
    assert victim.server.get("/livez")[0] == 200


def test_nothing_after_connection_close_is_answered(victim: Victim) -> None:
    """Kludex/uvicorn#2238: a request behind `Connection: close` is answered."""
    conversation = victim.talk(request() + request())

    assert conversation.is_closed
    assert conversation.statuses == [200]


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", ["x"], 200),
        ("1.1", [], 400),
        ("1.1", ["x", "y"], 400),
        ("1.1", ["x", "x"], 400),
        ("1.0", [], 200),
        ("1.0", ["x", "y"], 400),
        ("1.1", ["x/metrics?"], 200),
        ("1.1", ["1234:5678::1:80"], 200),
    ],
)
def test_a_request_has_one_host(
    victim: Victim, version: str, hosts: list[str], status: int
) -> None:
    """Kludex/uvicorn#3125: of two hosts a proxy takes one and the service the other."""
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    sent = f"GET /livez HTTP/{version}\r\n{lines}Connection: close\r\n\r\n"

    assert victim.talk(sent.encode()).statuses == [status]


def test_pipelined_requests_are_answered_in_order(victim: Victim) -> None:
    """Kludex/uvicorn#344: requests sent at once lose their place or their answer."""
    sent = b"".join(
        head(lines=[f"Content-Length: {len(QUERY)}", f"X-Request-Id: number-{number}"]) + QUERY
        for number in range(20)
    )
    conversation = victim.talk(sent + request(b"no json"))

    assert conversation.statuses == [200] * 20 + [400]
    ids = re.findall(rb"x-request-id: number-(\d+)", conversation.received)
    assert [int(each) for each in ids] == list(range(20))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/embeddings/", {307, 308, 404}), ("/embeddings", {404}), ("/v1/v1/embeddings", {404})],
)
def test_another_path_of_openai_s_is_not_found(
    client: TestClient, path: str, status: set[int]
) -> None:
    """huggingface/text-embeddings-inference#213: which base URL is the right one?"""
    body = {"model": MODEL, "input": "tea"}
    response = client.post(path, json=body, follow_redirects=False)

    assert response.status_code in status


def test_openai_s_headers_pass_a_preflight(shop: TestClient) -> None:
    """ollama/ollama#4388, #9236: a browser refuses to call, as `x-stainless-os` is not allowed."""
    asked = "authorization, content-type, x-stainless-os, x-stainless-timeout, openai-organization"
    response = shop.options(
        "/v1/embeddings",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )

    assert response.status_code == 200, response.text
    allowed = response.headers["access-control-allow-headers"].lower()
    assert set(asked.split(", ")) <= set(re.split(r",\s*", allowed))


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip;q=0.5, deflate", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000, identity", None),
        ("deflate, gzip;Q=0", None),
        ("br", None),
        ("x-gzipped", None),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(
    victim: Victim, accepted: str, encoding: str | None
) -> None:
    """encode/starlette: `gzip;q=0` is compressed all the same."""
    with closing(HTTPConnection("127.0.0.1", victim.port, timeout=60)) as connection:
        connection.request("GET", "/openapi.json", headers={"Accept-Encoding": accepted})
        response = connection.getresponse()
        response.read()

    assert response.headers["Content-Encoding"] == encoding


@pytest.mark.parametrize(
    "given", ["bytes=5-1", "bytes=999999-", "bytes=0-3", "bytes=", "lines=1-2", "bytes=-0"]
)
@pytest.mark.parametrize("path", ["/", "/web/favicon.svg"])
def test_a_range_of_the_page_is_the_whole_file(client: TestClient, path: str, given: str) -> None:
    """Kludex/starlette#3105, #3430: ranges are 400 in plain text, or a denial of service."""
    whole = client.get(path)
    response = client.get(path, headers={"Range": given})

    assert (response.status_code, response.content) == (200, whole.content)


@pytest.mark.parametrize("inside", ["\u2028", "\u0085", "\x1c", "\u2029"])
def test_a_line_separator_in_a_text_ends_no_line(tmp_path: Path, inside: str) -> None:
    """wbolster/jsonlines#53: JSON lines end at U+2028 and U+0085 in a text."""
    records = [{"id": "1", "text": f"a{inside}b"}, {"id": "2", "text": "c"}]
    found = read_passages(write_passages(tmp_path / "passages.jsonl", records))

    assert [passage.text for _, passage in found] == [f"a{inside}b", "c"]


@pytest.mark.parametrize("sent", ["Bearer {}", "bearer {}", "BEARER  {}"])
def test_the_scheme_of_a_key_has_no_case(service_settings: Settings, sent: str) -> None:
    """Azure/autorest.typescript#2109: `bearer` in lower case is 401."""
    settings = service_settings.model_copy(update={"api_key": SecretStr("k" * 32)})
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": sent.format("k" * 32)}

        assert client.post("/search", json={"query": "tea"}, headers=headers).status_code == 200


@pytest.mark.parametrize("top_k", [10, 17, 300])
def test_a_graph_finds_as_many_as_are_asked_for(
    tmp_path: Path, tiny_encoder: Encoder, top_k: int
) -> None:
    """facebookresearch/faiss#1244, #3022: above efSearch, HNSW finds fewer than k."""
    rows = [{"id": f"{row}", "text": f"tea {row} " * (1 + row % 7)} for row in range(300)]
    passages = write_passages(tmp_path / "passages.jsonl", rows)
    build_index(read_passages(passages), tmp_path / "index", tiny_encoder, factory="HNSW16")
    searcher = Searcher(tiny_encoder, open_current(tmp_path / "index"))
    [hits] = searcher.search(["tea"], top_k)

    assert len({hit.passage.passage_id for hit in hits}) == top_k


def test_a_scan_for_files_adds_no_series(victim: Victim) -> None:
    """BerriAI/litellm#35666: each path that a scanner tries is a new label, for ever."""

    def routes() -> set[str]:
        return set(re.findall(r'route="([^"]*)"', victim.server.get("/metrics")[1]))

    for number in range(50):
        if number == 1:
            before = routes()
        victim.server.get(f"/files/{number}.php")
        victim.ask(path=f"/v1/models/{number}")

    assert routes() == before
