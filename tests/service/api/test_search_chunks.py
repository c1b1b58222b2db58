from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.client.results import read_results
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.encoder.encoder import Encoder
from tests.conftest import PASSAGES
from tests.support.searches import hits_of, serving

LONG: list[dict[str, Any]] = [
    {
        "id": f"long/{number}",
        "title": "Long",
        "text": "".join(f"Sentence {row} of {number} is about tea. " for row in range(40)),
        "kind": "long",
    }
    for number in range(3)
]
RECORDS = [*PASSAGES, *LONG]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[TestClient]:
    """A service whose index holds three documents that were split."""
    folder = tmp_path_factory.mktemp("split")
    with serving(
        folder, RECORDS, tiny_encoder, fields={"kind": "string"}, chunking=Chunking.of(64, 48)
    ) as client:
        yield client


def answer(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/search", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def document_of(hit: dict[str, Any]) -> str:
    return str(hit.get("document_id", hit["passage_id"]))


def test_hits_fold_by_document_into_the_best_chunk(split: TestClient) -> None:
    chunks = hits_of(split, query=LONG[0]["text"][:60], top_k=200, group="chunk")

    folded = hits_of(split, query=LONG[0]["text"][:60], top_k=200)

    firsts: dict[str, dict[str, Any]] = {}
    for hit in chunks:
        firsts.setdefault(document_of(hit), hit)
    assert [hit["passage_id"] for hit in folded] == [hit["passage_id"] for hit in firsts.values()]
    assert [hit["rank"] for hit in folded] == list(range(1, len(RECORDS) + 1))
    for hit in folded:
        others = sum(document_of(each) == document_of(hit) for each in chunks) - 1
        assert hit.get("more_chunks", 0) == others


@pytest.mark.parametrize(("top_k", "offset"), [(1, 0), (3, 0), (3, 2), (23, 0)])
def test_top_k_and_offset_count_documents(split: TestClient, top_k: int, offset: int) -> None:
    everything = [document_of(hit) for hit in hits_of(split, query="tea", top_k=200)]

    page = hits_of(split, query="tea", top_k=top_k, offset=offset)

    assert [document_of(hit) for hit in page] == everything[offset : offset + top_k]


def test_a_chunk_says_where_it_is_in_its_document(split: TestClient) -> None:
    texts = {record["id"]: record["text"] for record in RECORDS}

    for hit in hits_of(split, query="tea", top_k=200, group="chunk"):
        if "document_id" in hit:
            assert hit["text"] == texts[hit["document_id"]][hit["start"] : hit["end"]]
            assert (hit["title"], hit["metadata"]) == ("Long", {"kind": "long"})
        else:
            assert hit["text"] == texts[hit["passage_id"]]
            assert "start" not in hit


def test_counts_and_facets_speak_of_documents(split: TestClient) -> None:
    found = answer(split, query="tea", facets=["kind"], filter={"kind": "long"})

    assert found["index"]["documents"] == len(RECORDS)
    assert found["index"]["passages"] > len(RECORDS)
    assert found["facets"]["kind"]["values"] == [{"value": "long", "count": len(LONG)}]
    assert len(found["results"][0]["hits"]) == len(LONG)


def test_a_document_and_a_chunk_are_returned_by_their_ids(split: TestClient) -> None:
    whole = split.get("/passages/long/1").json()
    chunk = split.get("/passages/long%2F1%232").json()

    assert (whole["passage_id"], whole["text"]) == ("long/1", LONG[1]["text"])
    assert "document_id" not in whole
    assert chunk["document_id"] == "long/1"
    assert chunk["text"] == LONG[1]["text"][chunk["start"] : chunk["end"]]


@pytest.mark.parametrize("liked", ["long/1", "long/1#2"])
def test_others_are_like_a_document_without_its_own_chunks(split: TestClient, liked: str) -> None:
    hits = hits_of(split, more_like=liked, top_k=22, group="chunk")

    assert len(hits) == 22
    assert "long/1" not in {document_of(hit) for hit in hits}


def test_duplicates_fold_after_documents(split: TestClient) -> None:
    hits = hits_of(split, query="tea", top_k=200, fold="duplicates")

    assert sum(1 + hit["duplicates"] for hit in hits) == len(RECORDS)


def test_the_client_reads_where_a_chunk_is(split: TestClient) -> None:
    content = answer(split, query="tea", filter={"kind": "long"}, top_k=1)

    [hit] = read_results(content)[0].hits

    sent = content["results"][0]["hits"][0]
    assert (hit.document_id, hit.start, hit.end) == (
        sent["document_id"],
        sent["start"],
        sent["end"],
    )
    assert hit.more_chunks == sent["more_chunks"]
