from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.retrieval.encoder.encoder import Encoder
from tests.conftest import PASSAGES
from tests.support.searches import hits_of, serving

REPEATED = "Nairobi is the capital of Kenya and its largest city by far."
RECORDS: list[dict[str, Any]] = [
    *PASSAGES,
    *({"id": f"copy/{number:02}", "text": REPEATED, "page": number} for number in range(30)),
    {"id": "\u00e4 b?c", "text": "An odd id."},
]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[TestClient]:
    """A service whose index holds 30 copies of one text."""
    folder = tmp_path_factory.mktemp("copies")
    with serving(folder, RECORDS, tiny_encoder, fields={"page": "number"}) as client:
        yield client


@pytest.mark.parametrize("record", [RECORDS[0], RECORDS[7], RECORDS[20], RECORDS[-1]])
def test_a_passage_is_returned_by_its_id(copies: TestClient, record: dict[str, Any]) -> None:
    from urllib.parse import quote

    passage = copies.get(f"/passages/{quote(record['id'], safe='')}").json()

    assert passage == {
        "passage_id": record["id"],
        "title": record.get("title", ""),
        "text": record["text"],
        "metadata": {"page": record["page"]} if "page" in record else {},
        "index": {"generation": passage["index"]["generation"], "passages": len(RECORDS)},
    }


@pytest.mark.parametrize("passage_id", ["kenya", "kenya.1.", "zzz", "%20", "a" * 2000])
def test_an_unknown_id_is_404_with_the_passages_problem(
    copies: TestClient, passage_id: str
) -> None:
    response = copies.get(f"/passages/{passage_id}")

    assert response.status_code == 404
    assert response.json()["type"].endswith("unknown-passage")


JSON = {"Content-Type": "application/json"}


def test_pages_of_hits_join_to_one_ranking(copies: TestClient) -> None:
    whole = hits_of(copies, query="tea", top_k=20)
    parts = [hits_of(copies, query="tea", top_k=8, offset=offset) for offset in (0, 8, 16)]

    assert [hit for part in parts for hit in part][:20] == whole
    assert [hit["rank"] for hit in parts[1]] == list(range(9, 17))
    assert hits_of(copies, query="tea", top_k=8, offset=900) == []


def test_offset_and_top_k_reach_a_thousand_together(copies: TestClient) -> None:
    assert hits_of(copies, query="tea", top_k=1, offset=999) == []

    response = copies.post("/search", json={"query": "tea", "top_k": 2, "offset": 999})

    assert response.status_code == 422
    assert (response.json()["field"], "at most 998" in response.json()["detail"]) == (
        "offset",
        True,
    )


def test_folded_copies_are_one_hit_and_the_page_is_full(copies: TestClient) -> None:
    hits = hits_of(copies, query=REPEATED, top_k=10, fold="duplicates")

    assert [hit["rank"] for hit in hits] == list(range(1, 11))
    [leader] = [hit for hit in hits if hit["passage_id"].startswith("copy/")]
    assert (leader["passage_id"], leader["duplicates"]) == ("copy/00", 29)
    assert sum(hit["duplicates"] for hit in hits) == 29


def test_a_folded_page_continues_where_the_last_one_ended(copies: TestClient) -> None:
    whole = hits_of(copies, query=REPEATED, top_k=6, fold="duplicates", include_text=False)
    second = hits_of(
        copies, query=REPEATED, top_k=3, offset=3, fold="duplicates", include_text=False
    )

    assert [hit["passage_id"] for hit in second] == [hit["passage_id"] for hit in whole[3:]]


def test_more_like_a_passage_finds_others_as_its_own_vector_does(copies: TestClient) -> None:
    hits = hits_of(copies, more_like="copy/07", top_k=5, fold="duplicates")
    unfolded = hits_of(copies, more_like="copy/07", top_k=40)

    assert hits[0]["duplicates"] == 28  # itself is none of them
    assert "copy/07" not in {hit["passage_id"] for hit in unfolded}
    assert [hit["rank"] for hit in unfolded] == list(range(1, 41))
    assert unfolded[0]["score"] == pytest.approx(1, abs=1e-5)


def test_more_like_takes_filters_and_is_refused_for_an_unknown_id(copies: TestClient) -> None:
    hits = hits_of(copies, more_like="copy/07", filter={"page": {"lt": 3}}, top_k=3)
    response = copies.post("/search", json={"more_like": "nothing"})

    assert {hit["metadata"]["page"] for hit in hits} <= {0, 1, 2}
    assert (response.status_code, response.json()["field"]) == (422, "more_like")


def test_more_like_is_text_that_utf_8_can_encode(copies: TestClient) -> None:
    response = copies.post("/search", content=b'{"more_like": "\\ud800"}', headers=JSON)

    assert (response.status_code, response.json()["field"]) == (422, "more_like")
    assert "half a surrogate pair" in response.json()["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"query": "a", "more_like": "b"}, {"queries": ["a"], "more_like": "b"}]
)
def test_a_search_is_for_one_thing(copies: TestClient, body: dict[str, Any]) -> None:
    response = copies.post("/search", json=body)

    assert response.status_code == 422
    assert "give one of `query`, `queries` and `more_like`" in response.json()["detail"]
