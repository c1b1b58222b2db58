"""From a foreign encoder to a tuned one: train, publish, and serve it over an index of the base."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.conftest import PROMPTS
from tests.support.architectures import make_encoder
from tests.support.minilm import HAS_MINILM, extract_minilm
from tests.support.training_rows import ROWS
from trainer.config import parse_config
from trainer.data.rows import write_rows
from trainer.publish.directory import Publication, open_sides, write_publication
from trainer.training.train import train

QUERIES = ["capital of Kenya", "chai inakua wapi?", "Was kocht auf einem Berg?"]
INSTRUCTION = "Instruct: Given a question, retrieve passages that answer it\nQuery:"
BASES: dict[str, Callable[[Path], Path]] = {
    "e5": partial(make_encoder, architecture="xlm-roberta", prompts=PROMPTS),
    "qwen3": partial(
        make_encoder, architecture="qwen3", prompts={"query": INSTRUCTION, "document": ""}
    ),
    "minilm": extract_minilm,
}
SKIPPED = pytest.mark.skipif(not HAS_MINILM, reason="needs the extra `minilm`")
MARKS = {"minilm": (pytest.mark.slow, SKIPPED)}


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers


@dataclass(frozen=True)
class TunedBase:
    """A base, its adapter, what was published of both, and an index of the base."""

    base: Path
    adapter: Path
    published: Path
    index: Path


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=MARKS.get(name, ())) for name in BASES]
)
def tuned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, passages_file: Path
) -> TunedBase:
    """An E5-base-shaped encoder, a Qwen3-Embedding-shaped one, and all-MiniLM-L6-v2."""
    folder = tmp_path_factory.mktemp("tuned")
    base = BASES[request.param](folder / "base")
    write_rows(folder / "rows.jsonl", ROWS)
    content: dict[str, object] = {
        "encoder": {"name": str(base), "max_tokens": 64, "lora_rank": 2},
        "data": {"rows": ["rows.jsonl"]},
        "objective": {"name": "frozen_bridge", "temperature": 0.02},
        "optimizer": {"steps": 3, "batch_rows": 8, "learning_rate": 1e-2, "precision": "fp32"},
    }
    config = parse_config(content, folder / "config.toml")
    record = train(config, folder / "run", cache=folder / "cache", device="cpu")
    adapter = folder / "run" / record["output"]
    sides = open_sides(str(adapter), "none", folder / "cache")
    write_publication(*sides, folder / "published", Publication("owner/tuned", "mit"))
    build_index(
        read_passages(passages_file), folder / "index", load_encoder(str(base), device="cpu")
    )
    return TunedBase(base, adapter, folder / "published", folder / "index")


@pytest.fixture
def expected(tuned: TunedBase) -> NDArray[np.float32]:
    """The queries as peft and sentence-transformers embed them, from the base and the adapter."""
    model = SentenceTransformer(str(tuned.base), device="cpu")
    model[0].model = PeftModel.from_pretrained(model[0].model, str(tuned.adapter)).eval()
    embeddings: NDArray[np.float32] = model.encode_query(QUERIES)
    plain = SentenceTransformer(str(tuned.base), device="cpu").encode_query(QUERIES)
    assert np.abs(embeddings - plain).max() > 1e-2
    return embeddings


@pytest.fixture
def best_scores(
    tuned: TunedBase, expected: NDArray[np.float32], passages_file: Path
) -> NDArray[np.float32]:
    """The score of each query's best passage, whose embeddings are those of the base."""
    passages = [passage.encoder_text for _, passage in read_passages(passages_file)]
    base = load_encoder(str(tuned.base), device="cpu")
    scores: NDArray[np.float32] = expected @ base.encode(passages, "passage").embeddings.T
    return scores.max(axis=1)


def test_an_adapter_names_its_base_and_searches_the_bases_index(
    tuned: TunedBase,
    expected: NDArray[np.float32],
    best_scores: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # the base is found from any folder

    encoder = load_encoder(str(tuned.adapter), device="cpu")

    description = read_adapter(tuned.adapter).description
    assert description.base == str(tuned.base)
    assert description.base_fingerprint == encoder.passage_fingerprint
    np.testing.assert_allclose(encoder.encode(QUERIES, "query").embeddings, expected, atol=1e-5)
    hits = Searcher(encoder, open_current(tuned.index)).search(QUERIES, 1)
    np.testing.assert_allclose([best.score for [best] in hits], best_scores, atol=1e-5)


def test_a_published_encoder_is_served_over_the_bases_index(
    tuned: TunedBase, expected: NDArray[np.float32], best_scores: NDArray[np.float32]
) -> None:
    settings = Settings(encoder=str(tuned.published), index=tuned.index, device="cpu")
    with TestClient(create_app(settings)) as client:
        body = {"texts": QUERIES, "role": "query"}
        found = np.array(client.post("/encode", json=body).json()["embeddings"])
        results = client.post("/search", json={"queries": QUERIES}).json()["results"]

    np.testing.assert_allclose(found, expected, atol=1e-5)
    scores = [result["hits"][0]["score"] for result in results]
    np.testing.assert_allclose(scores, best_scores, atol=1e-5)


def test_a_published_encoder_is_read_by_sentence_transformers(
    tuned: TunedBase, expected: NDArray[np.float32]
) -> None:
    model = SentenceTransformer(str(tuned.published), device="cpu")
    base = SentenceTransformer(str(tuned.base), device="cpu")

    np.testing.assert_allclose(model.encode_query(QUERIES), expected, atol=1e-5)
    passages = model.encode_document(QUERIES)
    np.testing.assert_allclose(passages, base.encode_document(QUERIES), atol=1e-6)
