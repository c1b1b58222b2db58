"""The field `evidence` of `/search`, and what `/info` says where there is none."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.client.results import Evidence, read_results
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.evidence.segments import spans_of
from tests.conftest import PASSAGES
from tests.support.searches import hits_of, serving

RECORDS: list[dict[str, Any]] = [
    *PASSAGES,
    {
        "id": "harp",
        "title": "Harp",
        "text": "The harp has forty-seven strings. Tea grows on the slopes of a mountain.",
    },
]


@pytest.fixture(autouse=True)
def no_least_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show evidence however little it leads: the tiny encoder's cosines are close together."""
    monkeypatch.setattr("service.retrieval.evidence.table.LEAST_LEAD", 0.0)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[TestClient]:
    """A service whose index has evidence."""
    folder = tmp_path_factory.mktemp("evidence")
    with serving(folder, RECORDS, tiny_encoder, evidence=True) as client:
        yield client


def test_each_hit_has_its_evidence_only_if_it_is_asked_for(shown: TestClient) -> None:
    asked = hits_of(shown, query="tea", top_k=50, evidence=True)
    plain = hits_of(shown, query="tea", top_k=50)

    for hit, other in zip(asked, plain, strict=True):
        evidence = hit.pop("evidence")
        assert hit == other
        spans = spans_of(hit["text"])
        if len(spans) == 1:
            assert evidence is None
        else:
            assert (evidence["start"], evidence["end"]) in spans
            assert -1 <= evidence["score"] <= 1


def test_evidence_is_there_without_the_text_and_on_later_pages(shown: TestClient) -> None:
    everything = hits_of(shown, query="tea", top_k=50, evidence=True)

    page = hits_of(shown, query="tea", top_k=5, offset=3, evidence=True, include_text=False)

    assert [hit["evidence"] for hit in page] == [hit["evidence"] for hit in everything[3:8]]


def test_each_query_has_its_own_evidence(shown: TestClient) -> None:
    queries = ["How many strings has a harp?", "Where does tea grow?"]
    alone = [hits_of(shown, query=query, top_k=50, evidence=True) for query in queries]

    response = shown.post("/search", json={"queries": queries, "top_k": 50, "evidence": True})

    for expected, result in zip(alone, response.json()["results"], strict=True):
        assert [hit["passage_id"] for hit in result["hits"]] == [
            hit["passage_id"] for hit in expected
        ]
        for hit, other in zip(result["hits"], expected, strict=True):
            assert (hit["evidence"] is None) == (other["evidence"] is None)


def test_a_passage_in_place_of_a_query_asks_nothing(shown: TestClient) -> None:
    found = hits_of(shown, more_like="harp", top_k=50, evidence=True)

    assert {hit["evidence"] for hit in found} == {None}


def test_info_says_that_the_index_has_evidence(shown: TestClient) -> None:
    found = shown.get("/info").json()["index"]["evidence"]

    assert found == {"available": True, "reason": None}


def test_an_index_without_evidence_answers_null_and_info_says_why(client: TestClient) -> None:
    found = hits_of(client, query="tea", top_k=50, evidence=True)

    assert {hit["evidence"] for hit in found} == {None}
    assert client.get("/info").json()["index"]["evidence"] == {
        "available": False,
        "reason": "the index was built without: run `index build --evidence`",
    }


def test_the_client_reads_evidence(shown: TestClient) -> None:
    body = shown.post("/search", json={"query": "tea", "top_k": 50, "evidence": True}).json()

    [result] = read_results(body)

    found = {hit.passage_id: hit for hit in result.hits}["harp"]
    assert isinstance(found.evidence, Evidence)
    text = found.text or ""
    assert text[found.evidence.start : found.evidence.end] in (text[:33], text[34:])
