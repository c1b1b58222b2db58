from collections.abc import Iterator
from pathlib import Path

import pytest

from service.demo import index as demo
from service.demo.index import ensure_demo_index
from service.lifespan import load_engine
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics
from tests.conftest import flip_bit


@pytest.fixture(autouse=True)
def _tiny_factbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Factbook of one passage."""

    def passages() -> Iterator[tuple[str, Passage]]:
        yield "africa/ke.json", Passage("kenya.1", "Tea grows in Kenya.", "Kenya: Economy")

    monkeypatch.setattr(demo, "factbook_passages", passages)


def ensure(index: Path, encoder: Encoder) -> list[str]:
    """Ensure the demo's index; return the stages of the build, if there was one."""
    stages: list[str] = []
    ensure_demo_index(index, lambda: encoder, lambda stage, done, total: stages.append(stage))
    return list(dict.fromkeys(stages))


def refuse_to_load() -> Encoder:
    raise AssertionError("the encoder is not needed")


def test_a_missing_index_is_built(tmp_path: Path, tiny_encoder: Encoder) -> None:
    stages = ensure(tmp_path / "demo", tiny_encoder)

    assert stages == ["load", "read", "encode", "index", "check"]
    passages = open_current(tmp_path / "demo").passages
    assert passages.passage_ids([0]) == ["kenya.1"]
    assert list(passages.fields) == ["country", "region", "section"]  # the page filters by them


def test_a_whole_index_is_left_as_it_is_and_no_encoder_is_loaded(index_copy: Path) -> None:
    before = open_current(index_copy).name

    loaded = ensure_demo_index(index_copy, refuse_to_load, lambda stage, done, total: None)

    assert loaded is None
    assert open_current(index_copy).name == before


def test_the_encoder_that_built_the_index_is_served(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path
) -> None:
    index = tmp_path / "demo"
    loaded = ensure_demo_index(index, lambda: tiny_encoder, lambda stage, done, total: None)

    engine = load_engine(
        Settings(encoder=str(tiny_checkpoint), index=index), Metrics(), encoder=loaded
    )

    assert engine.searcher.encoder is tiny_encoder
    engine.close()


@pytest.mark.parametrize("name", ["manifest.json", "vectors.faiss", "passages.arrow"])
def test_a_damaged_index_is_built_again(index_copy: Path, tiny_encoder: Encoder, name: str) -> None:
    flip_bit(next(index_copy.glob(f"generations/*/{name}")))

    ensure(index_copy, tiny_encoder)

    assert open_current(index_copy).passages.passage_ids([0]) == ["kenya.1"]
