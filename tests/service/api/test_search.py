from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.search_schemas import SearchRequest
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.searcher import Searcher

QUESTION = "Je, mji mkuu wa Kenya ni upi?"


def search(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/search", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def hits(client: TestClient, **body: object) -> list[dict[str, Any]]:
    return list(search(client, **body)["results"][0]["hits"])


@pytest.fixture(scope="session")
def searcher(tiny_encoder: Encoder, tiny_index: object) -> Searcher:
    return Searcher(tiny_encoder, open_current(tiny_index))  # type: ignore[arg-type]


def test_one_query_gets_one_result_of_the_best_passages(
    client: TestClient, searcher: Searcher
) -> None:
    found = hits(client, query=QUESTION, top_k=3)

    expected = searcher.search([QUESTION], 3)[0]
    assert [hit["passage_id"] for hit in found] == [hit.passage.passage_id for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected])


def test_a_hit_has_the_documented_fields_and_no_row(client: TestClient) -> None:
    found = hits(client, query=QUESTION, top_k=12)

    kenya = next(hit for hit in found if hit["passage_id"] == "kenya.1")
    assert kenya == {
        "passage_id": "kenya.1",
        "score": kenya["score"],
        "relevance": None,
        "rank": found.index(kenya) + 1,
        "matched": [],
        "title": "Kenya",
        "text": "Nairobi is the capital of Kenya.",
        "metadata": {"page": 1},
    }


def test_hits_are_ranked_from_1_by_descending_score(client: TestClient) -> None:
    found = hits(client, query=QUESTION, top_k=12)

    scores = [hit["score"] for hit in found]
    assert [hit["rank"] for hit in found] == list(range(1, 13))
    assert scores == sorted(scores, reverse=True)


def test_several_queries_get_their_results_in_order(client: TestClient) -> None:
    queries = [QUESTION, "What boils on a mountain?", "日本的气候怎么样?", QUESTION]

    together = search(client, queries=queries, top_k=4)["results"]

    alone = [search(client, query=query, top_k=4)["results"][0] for query in queries]
    assert [ids(result) for result in together] == [ids(result) for result in alone]
    assert [result["language"] for result in together] == [result["language"] for result in alone]


def test_the_quality_of_a_language_is_unknown_without_a_record(client: TestClient) -> None:
    [result] = search(client, query=QUESTION, language="sw")["results"]

    assert result["language_quality"] == "unknown"


def ids(result: dict[str, Any]) -> list[str]:
    return [hit["passage_id"] for hit in result["hits"]]


def test_a_query_alone_scores_as_among_32(client: TestClient) -> None:
    others = [f"{number} other questions " * (number % 7 + 1) for number in range(31)]

    among = search(client, queries=[*others[:16], QUESTION, *others[16:]])["results"][16]["hits"]

    alone = hits(client, query=QUESTION)
    assert [hit["passage_id"] for hit in among] == [hit["passage_id"] for hit in alone]
    assert [hit["score"] for hit in among] == pytest.approx(
        [hit["score"] for hit in alone], abs=1e-5
    )


def test_include_text_false_omits_only_the_text(client: TestClient) -> None:
    with_text = hits(client, query=QUESTION)

    without = hits(client, query=QUESTION, include_text=False)

    assert without == [hit | {"text": None} for hit in with_text]


def test_min_score_omits_lower_hits_and_keeps_ranks(client: TestClient) -> None:
    found = hits(client, query=QUESTION, top_k=12)
    min_score = (found[4]["score"] + found[5]["score"]) / 2

    assert hits(client, query=QUESTION, top_k=12, min_score=min_score) == found[:5]


def test_no_passage_over_min_score_is_no_error(client: TestClient) -> None:
    assert hits(client, query=QUESTION, min_score=1) == []


def test_top_k_beyond_the_corpus_gives_every_passage_once(client: TestClient) -> None:
    found = hits(client, query=QUESTION, top_k=1000)

    assert len({hit["passage_id"] for hit in found}) == len(found) == 12


def test_ten_hits_are_the_default(client: TestClient) -> None:
    assert len(hits(client, query=QUESTION)) == 10


GRANDFATHERED = ["i-klingon", "en-GB-oed", "sgn-BE-FR", "zh-min-nan", "art-lojban", "i-default"]


@pytest.mark.parametrize(
    "language", ["sw", "sw-KE", "zh-Hant-TW", "xx-made-up", "x-whatever", *GRANDFATHERED]
)
def test_a_declared_language_is_echoed(client: TestClient, language: str) -> None:
    answer = search(client, queries=[QUESTION, "two"], language=language)

    assert [result["language"] for result in answer["results"]] == [language, language]


def test_null_stands_for_the_default_of_every_optional_field(client: TestClient) -> None:
    names = {name for name, field in SearchRequest.model_fields.items() if not field.is_required()}

    answer = search(client, **{**dict.fromkeys(names), "query": QUESTION})

    assert answer["results"] == search(client, query=QUESTION)["results"]


def test_whole_numbers_may_have_a_decimal_point(client: TestClient) -> None:
    """Programs whose numbers are all floats write 1.0."""
    answer = search(client, query=QUESTION, top_k=1.0, timeout_ms=10_000.0)

    assert answer["results"] == search(client, query=QUESTION, top_k=1)["results"]


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("Swahili", "write its code, `sw`"),
        (" chinese ", "write its code, `zh`"),
        ("en_US", "such as `sw`, `pt-BR` or `zh-Hant`"),
    ],
)
def test_a_language_that_is_no_code_is_told_one(
    client: TestClient, language: str, told: str
) -> None:
    answer = client.post("/search", json={"query": QUESTION, "language": language})

    assert (answer.status_code, answer.json()["field"]) == (422, "language")
    assert told in answer.json()["detail"]


def test_an_empty_filter_is_told_what_to_write(client: TestClient) -> None:
    answer = client.post("/search", json={"query": QUESTION, "filter": {}})

    assert "filter: is empty: name a field" in answer.json()["detail"]


def test_an_undeclared_language_is_detected(client: TestClient) -> None:
    queries = [QUESTION, "বাংলাদেশের প্রধান পরিবেশগত সমস্যাগুলো কী কী?", "1234"]

    answer = search(client, queries=queries)

    assert [result["language"] for result in answer["results"]] == ["sw", "bn", "und"]


def test_a_response_names_its_encoder_and_generation(
    client: TestClient, tiny_encoder: Encoder, searcher: Searcher
) -> None:
    answer = search(client, query=QUESTION)

    assert set(answer) == {"results", "index", "encoder", "took_ms"}
    assert answer["index"] == {"generation": searcher.generation.name, "passages": 12}
    assert answer["encoder"] == tiny_encoder.name


def test_took_ms_and_the_header_server_timing_name_every_stage(client: TestClient) -> None:
    response = client.post("/search", json={"query": QUESTION})

    took_ms = response.json()["took_ms"]
    assert list(took_ms) == ["tokenize", "queue", "encode", "search", "passages"]
    assert min(took_ms.values()) >= 0 < max(took_ms.values())
    stages, _, total = response.headers["Server-Timing"].rpartition(", total;dur=")
    assert stages == ", ".join(
        f"{stage};dur={milliseconds}" for stage, milliseconds in took_ms.items()
    )
    assert float(total) >= max(took_ms.values())


def test_a_query_longer_than_the_encoder_reads_is_answered_and_told(client: TestClient) -> None:
    one, other = search(client, queries=["tea " * 2_000, "tea"])["results"]

    assert len(one["hits"]) == 10
    assert one["truncated"] is True
    assert "truncated" not in other
