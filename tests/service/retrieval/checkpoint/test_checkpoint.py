import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.conftest import cut_short, flip_bit, make_checkpoint


def test_a_checkpoint_trained_for_another_passage_encoder_names_it(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "bridge", passage_fingerprint="f" * 64)

    encoder = load_encoder(str(directory), device="cpu")

    assert encoder.passage_fingerprint == "f" * 64
    assert encoder.fingerprint != "f" * 64


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", flip_bit),
        ("model.safetensors", cut_short),
        ("1_Pooling/config.json", flip_bit),
        ("tokenizer.json", Path.unlink),
        ("manifest.json", flip_bit),
    ],
)
def test_a_damaged_checkpoint_does_not_load(
    checkpoint_copy: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(checkpoint_copy / name)

    with pytest.raises(CheckpointError, match=re.escape(str(checkpoint_copy / name))):
        load_encoder(str(checkpoint_copy), device="cpu")
