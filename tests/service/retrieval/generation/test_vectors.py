import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    current_name,
    open_current,
    verify_generation,
    verify_hashes,
)
from service.retrieval.generation.history import publish, roll_back
from service.retrieval.generation.vectors import open_vectors_of
from service.retrieval.index.options import IndexOptions
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.support.builds import live_directory, rewrite_manifest
from tests.support.damage import replace_vectors

Change = Callable[[NDArray[np.float32]], None]


def put(value: float, column: int | slice = 3) -> Change:
    def change(vectors: NDArray[np.float32]) -> None:
        vectors[1, column] = value

    return change


def stretch(vectors: NDArray[np.float32]) -> None:
    vectors[1] *= 1.01


CHANGES = {
    "NaN": put(np.nan),
    "infinity": put(np.inf),
    "zero": put(0.0, slice(None)),
    "too long": stretch,
}
MESSAGE = (
    "holds 1 vectors that are NaN, infinite or not of length 1, the first in row 1, of the "
    "passage 'food.2': run `clear-service index update`"
)


@pytest.fixture(params=["Flat", "HNSW8"])
def index(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_encoder: Encoder, passages_file: Path
) -> Path:
    build_index(
        read_passages(passages_file), tmp_path / "index", tiny_encoder, factory=request.param
    )
    return tmp_path / "index"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_invalid_vector_is_found_and_its_passage_named(index: Path, change: Change) -> None:
    replace_vectors(index, change)

    verify_hashes(live_directory(index))
    for refuse in (
        lambda: verify_generation(live_directory(index)),
        lambda: open_current(index),
        lambda: open_current(index, IndexOptions(backend="faiss")),
    ):
        with pytest.raises(GenerationError, match=MESSAGE):
            refuse()


def test_valid_vectors_are_read_as_they_were_built(index: Path, tiny_encoder: Encoder) -> None:
    generation = open_current(index)
    passages = generation.passages.read(range(12))

    with open_vectors_of(live_directory(index), generation.manifest) as vectors:
        found = vectors.copy()

    texts = [passage.encoder_text for passage in passages]
    expected = tiny_encoder.encode(texts, "passage").embeddings
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_index_verify_finds_it(index: Path) -> None:
    replace_vectors(index, put(np.nan))

    found = CliRunner().invoke(app, ["index", "verify", "--index", str(index)])

    assert (found.exit_code, found.stdout) == (1, "")
    assert "of the passage 'food.2'" in found.stderr.replace("\n", " ")


def test_a_service_does_not_start_with_it(index_copy: Path, service_settings: Settings) -> None:
    replace_vectors(index_copy, put(np.nan))
    settings = service_settings.model_copy(update={"index": index_copy})

    with (
        pytest.raises(GenerationError, match="holds 1 vectors that are NaN"),
        TestClient(create_app(settings)),
    ):
        pass


def test_a_reload_refuses_it_and_the_live_generation_stays(
    index_copy: Path, service_settings: Settings
) -> None:
    settings = service_settings.model_copy(update={"index": index_copy, "watch_seconds": 0.0})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        live = current_name(index_copy)
        replace_vectors(index_copy, put(np.nan))

        refused = client.post("/admin/reload")
        answer = client.post("/search", json={"query": "tea"}).json()

    assert refused.status_code == 409
    assert "of the passage 'food.2'" in refused.json()["detail"]
    assert answer["index"]["generation"] == live


def test_a_rollback_refuses_it(index_copy: Path, tiny_encoder: Encoder) -> None:
    spoiled = replace_vectors(index_copy, put(np.nan)).name
    live = build_index([("f", Passage("a", "tea"))], index_copy, tiny_encoder).directory.name

    with pytest.raises(GenerationError, match="holds 1 vectors that are NaN"):
        roll_back(index_copy, spoiled)

    assert current_name(index_copy) == live


def test_publishing_replaces_an_equal_generation_that_holds_it(
    index_copy: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = live_directory(index_copy)
    replaced: list[Path] = []
    monkeypatch.setattr("service.retrieval.generation.history._remove", replaced.append)
    spoiled = replace_vectors(index_copy, put(np.nan))

    publish(spoiled, index_copy)

    assert replaced == [spoiled]
    assert not directory.exists()


def test_raw_vectors_of_another_number_are_refused(tmp_path: Path, tiny_encoder: Encoder) -> None:
    passages = [(f"f:{row}", Passage(str(row), f"tea {row}")) for row in range(9)]
    build_index(passages, tmp_path, tiny_encoder, factory="SQ8")
    manifest = json.loads((live_directory(tmp_path) / "manifest.json").read_text())

    directory = rewrite_manifest(tmp_path, count=manifest["count"] + 1)

    with pytest.raises(GenerationError, match=r"embeddings\.f32 does not hold 10 vectors of 32"):
        verify_generation(directory)
