"""Identifiers of a question in answers of `/search`: matched, relevance, pages and folding."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.retrieval.relevance.model import relevances
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.support.relevance import calibrate, calibration_for

QUESTION = "wo ist AA-1720?"
TEXTS = [
    *(f"The common text number {number:02} of the corpus." for number in range(30)),
    "The order AA-1720 left for Lima on a ship with two masts.",
    "The order AA-1720 left for Lima on a ship with two masts!",
    "The order AA-1721 left for Oslo.",
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """A calibrated index that no test may alter."""
    index = tmp_path_factory.mktemp("identifiers") / "index"
    corpus = [("f", Passage(f"{row:02}", text)) for row, text in enumerate(TEXTS)]
    build_index(corpus, index, tiny_encoder)
    return calibrate(index, tiny_encoder.fingerprint)


@pytest.fixture(scope="module")
def client(index: Path, service_settings: Settings) -> Iterator[TestClient]:
    settings = service_settings.model_copy(update={"index": index})
    with TestClient(create_app(settings)) as client:
        yield client


def result_of(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/search", json={"query": QUESTION, **body})
    assert response.status_code == 200, response.text
    return dict(response.json()["results"][0])


def test_lifted_hits_come_first_and_tell_the_identifier(client: TestClient) -> None:
    hits = result_of(client, top_k=5)["hits"]
    assert {hit["passage_id"] for hit in hits[:2]} == {"30", "31"}
    assert [hit["matched"] for hit in hits] == [["AA-1720"], ["AA-1720"], [], [], []]
    assert client.get("/info").json()["identifiers"] == {"reason": None}


def test_queries_of_one_request_have_their_own_identifiers(client: TestClient) -> None:
    body = {"queries": ["tea", QUESTION, "wo ist AA-1721?"], "top_k": 1}
    results = client.post("/search", json=body).json()["results"]
    assert [result["hits"][0]["matched"] for result in results] == [[], ["AA-1720"], ["AA-1721"]]


def test_the_relevance_of_a_lifted_hit_counts_its_lift_as_score(
    client: TestClient, index: Path, tiny_encoder: Encoder
) -> None:
    searcher = Searcher(tiny_encoder, open_current(index))
    background = searcher.generation.manifest.background
    match = searcher.match(QUESTION)
    assert background is not None and match is not None
    embedding = tiny_encoder.encode([QUESTION], "query").embeddings
    scores = tiny_encoder.encode(TEXTS, "passage").embeddings @ embedding[0]
    scores[match.rows] += match.lifts
    weights = calibration_for(tiny_encoder.fingerprint)
    expected = relevances(sorted(scores.tolist(), reverse=True), background, weights)

    found = result_of(client, top_k=33)

    values = [hit["relevance"] for hit in found["hits"]]
    assert values == pytest.approx(expected, abs=1e-3)
    assert values == sorted(values, reverse=True)
    assert found["answered"] is (values[0] >= 0.5)


def test_pages_and_folding_count_what_is_left(client: TestClient) -> None:
    whole = result_of(client, top_k=33)["hits"]
    pages = [result_of(client, top_k=7, offset=offset)["hits"] for offset in range(0, 33, 7)]
    assert [hit for page in pages for hit in page] == whole
    folded = result_of(client, top_k=3, fold="duplicates")["hits"]
    assert [hit["rank"] for hit in folded] == [1, 2, 3]
    assert folded[0]["duplicates"] == 1 and folded[0]["matched"] == ["AA-1720"]
    assert result_of(client, top_k=2, offset=1, fold="duplicates")["hits"] == folded[1:]


def test_a_liked_passage_asks_for_no_identifier(client: TestClient) -> None:
    hits = client.post("/search", json={"more_like": "30", "top_k": 33}).json()["results"][0][
        "hits"
    ]
    assert len(hits) == 32 and not any(hit["matched"] for hit in hits)
