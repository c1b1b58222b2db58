"""Searches of an index that was built with --deduplicate."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.client.results import read_results
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.encoder.encoder import Encoder
from tests.conftest import PASSAGES
from tests.support.searches import hits_of, serving

TEXT = "Tea is grown in the mountains."
HEADER = "".join(f"Sentence {row} of the header is about the harp. " for row in range(6))
LONG, OTHER = (
    HEADER + "".join(f"Sentence {row} is about {word}. " for row in range(12))
    for word in ("the coast", "tea")
)
RECORDS: list[dict[str, Any]] = [
    *PASSAGES,
    *({"id": f"copy/{number}", "text": TEXT, "kind": f"k{number}"} for number in range(4)),
    {"id": "near", "text": f"{TEXT} Or so."},
    {"id": "long/1", "text": LONG},
    {"id": "long/2", "text": LONG.replace(". ", ".  ")},
    {"id": "other", "text": OTHER},
]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[TestClient]:
    """A service whose index holds copies of a short and of a long document."""
    folder = tmp_path_factory.mktemp("copies")
    with serving(
        folder,
        RECORDS,
        tiny_encoder,
        fields={"kind": "string"},
        chunking=Chunking.of(64, 32),
        deduplicate=True,
    ) as client:
        yield client


def test_documents_with_equal_texts_are_one_hit_that_names_the_others(copies: TestClient) -> None:
    found = {hit["passage_id"]: hit for hit in hits_of(copies, query=TEXT, top_k=200)}

    assert found["copy/0"]["duplicates"] == 3
    assert found["copy/0"]["duplicate_ids"] == ["copy/1", "copy/2", "copy/3"]
    assert (found["near"]["duplicates"], found["near"]["duplicate_ids"]) == (0, [])
    assert [hit["rank"] for hit in found.values()] == list(range(1, len(found) + 1))
    documents = {hit.get("document_id", name) for name, hit in found.items()}
    assert len(documents) == len(RECORDS) - 3 - 1


def test_top_k_and_offset_count_what_is_left(copies: TestClient) -> None:
    whole = [hit["passage_id"] for hit in hits_of(copies, query=TEXT, top_k=6)]

    assert [hit["passage_id"] for hit in hits_of(copies, query=TEXT, top_k=4, offset=2)] == whole[
        2:
    ]


def test_a_copy_that_the_filter_selects_is_found(copies: TestClient) -> None:
    [hit] = hits_of(copies, query=TEXT, filter={"kind": "k2"})

    assert (hit["passage_id"], hit["duplicates"]) == ("copy/2", 0)


def test_documents_that_share_a_chunk_alone_are_two_hits(copies: TestClient) -> None:
    found = hits_of(copies, query=HEADER[:100], top_k=200)

    by_document = {hit.get("document_id", hit["passage_id"]): hit for hit in found}
    assert "other" in by_document
    assert len({"long/1", "long/2"} & set(by_document)) == 1
    assert by_document["other"]["duplicates"] == 0


def test_the_client_reads_the_ids_of_duplicates(copies: TestClient) -> None:
    content = copies.post("/search", json={"query": TEXT, "top_k": 1}).json()

    [hit] = read_results(content)[0].hits

    sent = content["results"][0]["hits"][0]
    assert (hit.duplicates, hit.duplicate_ids) == (sent["duplicates"], sent["duplicate_ids"])
