"""`clear-service search` finds what `/search` finds, and shows it as well as a terminal can."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings

WORDS = "Tea grows in the hills of Kenya. Crate AA-1720 went to the harbor. Rain falls in March. "


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CLEAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")


@pytest.fixture(scope="module")
def split_index(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """An index of documents that are split into many chunks, and of short ones."""
    index = tmp_path_factory.mktemp("split") / "index"
    passages = [Passage(f"long{number}", WORDS * 12, f"Long {number}") for number in range(3)]
    passages += [Passage(f"short{number}", WORDS[:32], "Short") for number in range(3)]
    origins = [(f"f:{row}", passage) for row, passage in enumerate(passages)]
    build_index(origins, index, tiny_encoder, evidence=True)
    return index


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["search", *map(str, arguments)])


@pytest.mark.parametrize("top_k", [1, 6])
def test_hits_are_those_of_the_service_folded_by_document(
    split_index: Path, tiny_checkpoint: Path, top_k: int
) -> None:
    settings = Settings(encoder=str(tiny_checkpoint), index=split_index, device="cpu")
    body = {"query": "Where does AA-1720 go?", "top_k": top_k, "evidence": True}
    with TestClient(create_app(settings)) as client:
        expected = client.post("/search", json=body).json()["results"][0]["hits"]

    arguments = ("--index", split_index, "--encoder", tiny_checkpoint, "--top-k", top_k)
    found = json.loads(run(body["query"], *arguments, "--json").stdout)["hits"]
    table = run(body["query"], *arguments).stdout

    assert len({hit.get("document_id", hit["passage_id"]) for hit in found}) == len(found) == top_k
    for hit, other in zip(found, expected, strict=True):
        assert hit["score"] == pytest.approx(other["score"], abs=1e-5)
        assert {**hit, "score": 0} == {**other, "score": 0}
    assert all(f"{hit['more_chunks']} more of this document" in table for hit in found[:1])
    assert "matched: AA-1720" in table


def test_a_filter_by_a_field_that_is_not_declared_is_refused_by_its_name(
    tiny_index: Path, tiny_checkpoint: Path
) -> None:
    arguments = ("--index", tiny_index, "--encoder", tiny_checkpoint)

    result = run("tea", *arguments, "--filter", '{"city": "Lima"}')

    assert result.exit_code == 1
    assert result.stderr.startswith("error: filter.city: ")
