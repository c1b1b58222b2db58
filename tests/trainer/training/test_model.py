"""The encoder in training computes what the service computes, whatever its modules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.architectures import CONFIGS, tiny_transformer
from tests.support.layout_catalog import LAYOUTS
from tests.support.layouts import Folder, Layout
from trainer.config import EncoderConfig
from trainer.errors import ConfigError
from trainer.training.model import TrainableEncoder, load_trainable_encoder, set_dropout

TEXTS = ["Tea.", "Where does the tea of Kenya grow, and on which hills?", "Nairobi is a capital."]
UNPROMPTED = {"pooling_mode": "weightedmean", "include_prompt": False}
LAYOUTS_OF_TRAINING = [
    Layout("left-padded, the prompt is not pooled", "pooling", Folder("qwen3", UNPROMPTED)),
    Layout(
        "truncated",
        "modules",
        Folder(changes={"config_sentence_transformers.json": {"truncate_dim": 8}}),
        is_quick=True,
    ),
    Layout("last token", "pooling", Folder("qwen3", {"pooling_mode": "lasttoken"}), is_quick=True),
]
TRAINED = [
    layout
    for layout in (*LAYOUTS_OF_TRAINING, *LAYOUTS)
    if layout.group not in ("static", "two sides", "adapter", "refused") and not layout.pooling
]
UNTRAINED = [each for each in LAYOUTS if each not in TRAINED and each.group != "refused"]


def parameters(layouts: list[Layout]) -> list[Any]:
    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(each, marks=marks[each.is_quick], id=each.name) for each in layouts]


@pytest.fixture(scope="module", params=parameters(TRAINED))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param.make(tmp_path_factory.mktemp("layout") / "encoder")
    return made


@pytest.fixture(scope="module")
def trainable(checkpoint: Path) -> TrainableEncoder:
    return load(checkpoint, "fp32", lora_rank=2)


def load(checkpoint: Path, precision: str, **options: Any) -> TrainableEncoder:
    config = EncoderConfig(name=str(checkpoint), max_tokens=16, **options)
    return load_trainable_encoder(config, checkpoint.parent, "cpu", precision, 0)


def test_training_embeds_as_the_service_does(trainable: TrainableEncoder) -> None:
    model, roles = trainable.model.eval(), ("query", "passage")
    for role in roles:
        features = model.preprocess(TEXTS, prompt=trainable.base.prompts[role] or None)

        with torch.no_grad():
            trained = nn.functional.normalize(model(features)["sentence_embedding"], dim=-1)

        served = trainable.base.encode(TEXTS, role).embeddings  # type: ignore[arg-type]
        np.testing.assert_allclose(trained.numpy(), served, atol=1e-5)


def test_the_transformer_alone_is_trained(trainable: TrainableEncoder, checkpoint: Path) -> None:
    for each in (trainable, load(checkpoint, "fp32")):
        learning = {name for name, p in each.model.named_parameters() if p.requires_grad}

        assert learning
        assert learning == {f"0.model.{name}" for name in each.trained_tensors()}


def test_scores_in_bf16_are_of_fp32_embeddings(checkpoint: Path) -> None:
    trainable = load(checkpoint, "bf16")

    for encoder in (trainable.base, trainable.serving_encoder()):
        found = encoder.encode(TEXTS, "query").embeddings
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_without_dropout_training_is_deterministic(architecture: str) -> None:
    transformer = tiny_transformer(architecture).train()
    token_ids = torch.arange(12).reshape(2, 6) + 5

    set_dropout(transformer, 0.0)

    with torch.no_grad():
        first, second = (transformer(input_ids=token_ids).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("layout", parameters(UNTRAINED))
def test_a_layout_that_is_not_trained_is_refused_in_words(layout: Layout, tmp_path: Path) -> None:
    reasons = {
        "adapter": "holds an adapter of peft: merge it into its base first, by `python -c",
        "files": "has no modules.json, so that its pooling is unknown: save it by sentence-",
        "static": "embeds by .*Static.*, which has no transformer to train: name another encoder",
        "two sides": "has two sides: name an encoder that embeds queries and passages alike",
    }

    with pytest.raises(ConfigError, match=f"^encoder.name: .* {reasons[layout.group]}"):
        load(layout.make(tmp_path / "encoder"), "fp32")
