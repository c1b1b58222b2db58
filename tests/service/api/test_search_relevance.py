"""The relevance of hits, and whether a query is answered."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.relevance.model import relevances
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.support.relevance import calibrate, calibration_for

QUESTION = "Nairobi is the capital of Kenya."


@pytest.fixture(scope="module")
def calibrated_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_index: Path, tiny_encoder: Encoder
) -> Path:
    """A calibrated index that no test may alter."""
    index = Path(shutil.copytree(tiny_index, tmp_path_factory.mktemp("calibrated") / "index"))
    return calibrate(index, tiny_encoder.fingerprint)


@pytest.fixture(scope="module")
def calibrated(calibrated_index: Path, service_settings: Settings) -> Iterator[TestClient]:
    settings = service_settings.model_copy(update={"index": calibrated_index})
    with TestClient(create_app(settings)) as client:
        yield client


def result_of(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/search", json={"query": QUESTION, **body})
    assert response.status_code == 200, response.text
    return dict(response.json()["results"][0])


def test_each_hit_has_the_relevance_of_the_model(
    calibrated: TestClient, calibrated_index: Path, tiny_encoder: Encoder
) -> None:
    hits = result_of(calibrated, top_k=12)["hits"]
    searcher = Searcher(tiny_encoder, open_current(calibrated_index))
    [ranking] = searcher.rank(tiny_encoder.encode([QUESTION], "query").embeddings, 12)
    background = searcher.generation.manifest.background
    assert background is not None
    weights = calibration_for(tiny_encoder.fingerprint)
    expected = relevances(ranking.scores.tolist(), background, weights)
    assert [hit["relevance"] for hit in hits] == pytest.approx(expected, abs=1e-3)


def test_relevance_does_not_depend_on_how_many_hits_are_asked_for(calibrated: TestClient) -> None:
    hits = result_of(calibrated, top_k=12)["hits"]
    for body in ({"top_k": 1}, {"top_k": 3}, {"top_k": 10}, {"min_score": hits[1]["score"]}):
        found = result_of(calibrated, **body)["hits"]
        assert [hit["relevance"] for hit in found] == [
            hit["relevance"] for hit in hits[: len(found)]
        ]
    page = result_of(calibrated, top_k=2, offset=3)["hits"]
    assert [hit["relevance"] for hit in page] == [hit["relevance"] for hit in hits[3:5]]


def test_a_query_is_answered_if_its_best_relevance_reaches_the_threshold(
    calibrated: TestClient,
) -> None:
    found = result_of(calibrated, top_k=1)
    best = found["hits"][0]["relevance"]
    assert found["answered"] is (best >= 0.5)
    assert result_of(calibrated, answer_threshold=best)["answered"] is True
    assert result_of(calibrated, answer_threshold=min(1, best + 1e-4))["answered"] is False


def test_a_later_page_is_answered_as_the_first_one(calibrated: TestClient) -> None:
    first = result_of(calibrated, top_k=2, answer_threshold=0.0001)
    assert first["answered"] is True
    assert result_of(calibrated, top_k=2, offset=5, answer_threshold=0.0001)["answered"] is True


def test_a_least_score_omits_hits_and_not_the_answer(calibrated: TestClient) -> None:
    best = result_of(calibrated, top_k=1)["hits"][0]["relevance"]
    for threshold, answered in ((best, True), (min(1, best + 1e-4), False), (0, True)):
        for body in ({}, {"fold": "duplicates"}, {"group": "chunk", "offset": 3}):
            found = result_of(calibrated, min_score=1.0, answer_threshold=threshold, **body)
            assert (found["hits"], found["answered"]) == ([], answered)


def test_a_least_relevance_omits_hits_below_it_and_not_the_answer(calibrated: TestClient) -> None:
    hits = result_of(calibrated, top_k=12)["hits"]
    least = hits[4]["relevance"]
    found = result_of(calibrated, top_k=12, min_relevance=least)
    assert [hit["passage_id"] for hit in found["hits"]] == [
        hit["passage_id"] for hit in hits if hit["relevance"] >= least
    ]
    nothing = result_of(calibrated, min_relevance=1.0, answer_threshold=0.0)
    assert nothing["hits"] == [] and nothing["answered"] is True


def test_passages_like_another_answer_no_question(calibrated: TestClient) -> None:
    response = calibrated.post("/search", json={"more_like": "kenya.1"})
    found = response.json()["results"][0]
    assert found["answered"] is None
    assert {hit["relevance"] for hit in found["hits"]} == {None}
    refused = calibrated.post("/search", json={"more_like": "kenya.1", "min_relevance": 0.5})
    assert refused.status_code == 422 and refused.json()["field"] == "min_relevance"


@pytest.mark.parametrize("field", ["min_relevance", "answer_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5"])
def test_a_probability_is_between_0_and_1(
    calibrated: TestClient, field: str, value: object
) -> None:
    response = calibrated.post("/search", json={"query": QUESTION, field: value})
    assert response.status_code == 422 and response.json()["field"] == field


def test_without_calibration_relevance_is_null_and_info_says_why(client: TestClient) -> None:
    found = result_of(client)
    assert found["answered"] is None
    assert {hit["relevance"] for hit in found["hits"]} == {None}
    told = client.get("/info").json()["relevance"]
    assert told["calibration"] is None
    assert "clear-trainer calibrate" in told["reason"]


def test_without_calibration_a_least_relevance_is_refused_with_the_reason(
    client: TestClient,
) -> None:
    response = client.post("/search", json={"query": QUESTION, "min_relevance": 0.5})
    assert response.status_code == 422
    assert response.json()["field"] == "min_relevance"
    assert "no calibration" in response.json()["detail"]


def test_info_names_whose_calibration_is_in_force(calibrated: TestClient) -> None:
    assert calibrated.get("/info").json()["relevance"] == {"calibration": "index", "reason": None}


def test_answers_are_counted_by_language(calibrated: TestClient) -> None:
    calibrated.post("/search", json={"query": QUESTION, "language": "rn", "answer_threshold": 0})
    calibrated.post("/search", json={"query": QUESTION, "language": "rn", "answer_threshold": 1})
    text = calibrated.get("/metrics").text
    for answered in ("yes", "no"):
        assert f'clear_answers_total{{answered="{answered}",language="other"}} 1.0' in text


@pytest.mark.parametrize("content", ["{", json.dumps({"scale": 1})])
def test_a_damaged_calibration_of_the_index_is_a_reason_and_stops_no_start(
    index_copy: Path, service_settings: Settings, content: str
) -> None:
    (index_copy / "calibration.json").write_text(content)
    settings = service_settings.model_copy(update={"index": index_copy})
    with TestClient(create_app(settings)) as client:
        told = client.get("/info").json()["relevance"]
        assert told["reason"].startswith("calibration.json")
        assert result_of(client)["answered"] is None
