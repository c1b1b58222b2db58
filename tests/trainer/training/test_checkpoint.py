"""Checkpoints of a run: the newest is resumed from, a damaged one is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainer.errors import ConfigError
from trainer.training.checkpoint import last_checkpoint


def write_checkpoint(folder: Path, step: int, best: Path | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    save_file({"a": torch.ones(3)}, checkpoint / "trained.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.arange(50)}, checkpoint / name)
    state = {"best_model_checkpoint": str(best) if best else None}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    return checkpoint


def test_the_last_of_whole_checkpoints_is_found(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    best = write_checkpoint(tmp_path, 8)
    newest = write_checkpoint(tmp_path, 16, best)
    (tmp_path / "checkpoint-24").mkdir()  # killed while it was written

    assert last_checkpoint(tmp_path) == newest


@pytest.mark.parametrize(
    "name",
    ["trained.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
def test_a_damaged_file_is_named_with_the_way_on(tmp_path: Path, name: str) -> None:
    checkpoint = write_checkpoint(tmp_path, 8)
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(
        ConfigError, match=rf"checkpoint-8/{name} is damaged.*: remove the folder .*checkpoint-8, "
    ):
        last_checkpoint(tmp_path)


def test_a_flipped_bit_and_a_missing_file_are_found(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, 8)
    path = checkpoint / "optimizer.pt"
    content = path.read_bytes()
    place = content.index(bytes(torch.arange(50).numpy().tobytes()[8:40]))
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])

    with pytest.raises(ConfigError, match="optimizer.pt is damaged"):
        last_checkpoint(tmp_path)

    path.unlink()  # transformers would go on with a new optimizer
    with pytest.raises(ConfigError, match="optimizer.pt is missing: remove the folder"):
        last_checkpoint(tmp_path)


def test_lost_best_weights_are_told(tmp_path: Path) -> None:
    best = write_checkpoint(tmp_path, 8)
    write_checkpoint(tmp_path, 16, best)
    (best / "trained.safetensors").unlink()

    with pytest.raises(ConfigError, match="the best weights of the run, is missing: put it back"):
        last_checkpoint(tmp_path)
