"""The folder that training exports."""

import json
from pathlib import Path

import pytest

from service.retrieval.encoder.loader import load_encoder
from tests.conftest import make_checkpoint
from trainer.config import DataConfig, EncoderConfig, ObjectiveConfig, RunConfig
from trainer.publish.directory import Publication, open_sides, write_publication
from trainer.training.export import export
from trainer.training.model import load_trainable_encoder


@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_prompts_of_a_known_family_are_stated_by_the_trained_encoder(
    tmp_path: Path, is_frozen: bool
) -> None:
    """It has another name, by which nobody would know them."""
    base = make_checkpoint(tmp_path / "e5-base", with_manifest=False)
    (base / "config_sentence_transformers.json").unlink()
    encoder = EncoderConfig(name=str(base), max_tokens=32)
    trainable = load_trainable_encoder(encoder, tmp_path, "cpu", "fp32", 0)
    config = RunConfig(
        encoder=encoder,
        data=DataConfig(rows=[Path("rows")]),
        objective=ObjectiveConfig(name="frozen_bridge") if is_frozen else ObjectiveConfig(),
    )

    trained = export(tmp_path, trainable, config, {})

    found = load_encoder(str(trained), device="cpu")

    assert found.prompts == {"query": "query: ", "passage": "passage: "}
    stated = json.loads((tmp_path / "encoder/config_sentence_transformers.json").read_text())
    assert stated["prompts"]["document"] == "passage: "
    assert found.encodes_passages is not is_frozen
    sides = open_sides(str(trained), str(base), tmp_path)
    write_publication(*sides, tmp_path / "out", Publication("tuned", "mit"))
    published = load_encoder(str(tmp_path / "out"), device="cpu")
    assert published.prompts == found.prompts
    assert published.passage_fingerprint == found.passage_fingerprint
    if is_frozen:
        assert found.passage_fingerprint == trainable.base.passage_fingerprint
