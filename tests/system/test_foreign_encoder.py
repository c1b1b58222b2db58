"""A published encoder of others, all-MiniLM-L6-v2 (English): served, compared and scored."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.support.minilm import HAS_MINILM, extract_minilm
from trainer.data.evaluation_set import EvaluationData
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.datasets.formats.xquad import import_xquad
from trainer.evaluation.evaluate import evaluate

NDCG = 0.9433  # English questions, 240 English passages, fp32
XQUAD = Path(os.environ.get("DATA", "data"), "xquad")
TEXTS = [
    "Tea is grown in Kenya.",
    "Where do people grow tea, and how much of it is sold abroad each year?",
    "x",
    "The kora is a harp with 21 strings. " * 60,
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_MINILM, reason="needs the extra `minilm`"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract_minilm(tmp_path_factory.mktemp("foreign") / "all-MiniLM-L6-v2")


@pytest.fixture(scope="module", params=["torch", "openvino"])
def encoder(request: pytest.FixtureRequest, folder: Path) -> Encoder:
    return load_encoder(
        str(folder), cache=folder.parent / "cache", device="cpu", cpu_engine=request.param
    )


def test_its_vectors_are_those_of_sentence_transformers(folder: Path, encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    expected = model.encode_query(TEXTS)
    found = encoder.encode(TEXTS, "query")

    assert (encoder.embedding_dim, encoder.max_tokens) == (384, 256)
    assert found.num_truncated == 1
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)


@pytest.fixture(scope="module")
def client(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, passages_file: Path
) -> Iterator[TestClient]:
    encoder, index = load_encoder(str(folder), device="cpu"), tmp_path_factory.mktemp("index")
    build_index(read_passages(passages_file), index, encoder)
    settings = Settings(encoder=str(folder), index=index, device="cpu")
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Which country has Nairobi as its capital?", "kenya.1"),
        ("When did the volcano last erupt?", "japan.2"),
        ("Which foods are rich in protein?", "food.2"),
    ],
)
def test_it_is_served(client: TestClient, query: str, expected: str) -> None:
    answer = client.post("/search", json={"query": query, "top_k": 3})

    assert answer.json()["results"][0]["hits"][0]["passage_id"] == expected


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not XQUAD.is_dir(), reason=f"{XQUAD} is missing: set DATA to its parent")
def test_its_quality_on_english_xquad_is_the_reference(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(
        str(folder), cache=folder.parent / "cache", device="cpu", cpu_engine="auto"
    )
    judged = import_xquad(XQUAD, languages=["de"]).evaluation
    assert judged
    english = EvaluationData({"en": judged.passages["en"]}, judged.queries, judged.qrels)
    write_evaluation_set(tmp_path / "xquad", english)

    evaluation = evaluate(encoder, [read_evaluation_set(tmp_path / "xquad")], directions=["en-en"])

    [result] = evaluation.results
    assert result.measures["ndcg@10"] == pytest.approx(NDCG, abs=0.002)
