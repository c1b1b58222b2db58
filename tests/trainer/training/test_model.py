"""The encoder in training computes what the service computes, whatever its modules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import nn

from tests.conftest import PROMPTS
from tests.support.architectures import CONFIGS, DIM, make_encoder, tiny_transformer
from trainer.config import EncoderConfig
from trainer.errors import ConfigError
from trainer.training.model import TrainableEncoder, load_trainable_encoder, set_dropout

TEXTS = ["Tea.", "Where does the tea of Kenya grow, and on which hills?", "Nairobi is a capital."]
Modules = Callable[[], list[Any]]
LAYOUTS: dict[str, tuple[str, Modules, int | None]] = {
    **{
        mode: ("bert", lambda mode=mode: [Pooling(DIM, mode)], None)  # type: ignore[misc]
        for mode in Pooling.POOLING_MODES
    },
    "concatenated": ("bert", lambda: [Pooling(DIM, ("cls", "mean")), Normalize()], None),
    "decoder": ("qwen3", lambda: [Pooling(DIM, "lasttoken"), Normalize()], None),
    "left-padded, weighted": ("qwen3", lambda: [Pooling(DIM, "weightedmean")], None),
    "dense": (
        "xlm-roberta",
        lambda: [
            Pooling(DIM),
            Dense(DIM, 48, activation_function=nn.Tanh()),
            LayerNorm(48),
            Dense(48, 24, bias=False, activation_function=nn.Identity()),
            Normalize(),
        ],
        None,
    ),
    "truncated": ("bert", lambda: [Pooling(DIM)], 8),
}


ORDINARY = ("concatenated", "decoder", "dense", "truncated")
PARAMETERS = [
    pytest.param(name, marks=() if name in ORDINARY else pytest.mark.slow) for name in LAYOUTS
]


@pytest.fixture(scope="module", params=PARAMETERS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that sentence-transformers has saved."""
    architecture, modules, truncate_dim = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("layout")
    plain = make_encoder(folder / "plain", architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = SentenceTransformer(
            modules=[Transformer(str(plain), max_seq_length=64), *modules()],
            prompts=PROMPTS,
            truncate_dim=truncate_dim,
            device="cpu",
        )
    model.save_pretrained(str(folder / "encoder"), create_model_card=False)
    return folder / "encoder"


@pytest.fixture(scope="module")
def trainable(checkpoint: Path) -> TrainableEncoder:
    return load(checkpoint, "fp32", lora_rank=2)


def load(checkpoint: Path, precision: str, **options: Any) -> TrainableEncoder:
    config = EncoderConfig(name=str(checkpoint), max_tokens=64, **options)
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


def test_a_folder_that_transformers_saved_is_refused(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "modules.json").unlink()

    with pytest.raises(ConfigError, match=r"^encoder.name: .* has no modules.json, so that its"):
        load(checkpoint_copy, "fp32")
