import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError, DeviceError
from tests.conftest import cut_short


def test_a_folder_becomes_an_encoder(tiny_checkpoint: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu")

    assert encoder.name == "tiny-mean-0"
    assert (encoder.embedding_dim, encoder.max_tokens, str(encoder.pooling)) == (32, 64, "mean")
    assert encoder.prompts == {"query": "query: ", "passage": "passage: "}
    assert encoder.device == torch.device("cpu")
    assert encoder.passage_fingerprint == encoder.fingerprint


def drop_one_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def transpose_one_tensor(path: Path) -> None:
    tensors = load_file(path)
    name = "encoder.layer.1.output.dense.weight"
    tensors[name] = tensors[name].T.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def write_pickle_bytes(path: Path) -> None:
    path.write_bytes(b"\x80\x04N.")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop_one_tensor, r"lack encoder\.layer\.1\.output\.dense\.weight and 0 more"),
        (transpose_one_tensor, "does not belong to the weights: .encoder.layer.1.output.dense"),
        (cut_short, "cannot be loaded"),
        (write_pickle_bytes, "cannot be loaded"),
    ],
)
def test_weights_that_do_not_fit_are_refused_without_a_manifest(
    checkpoint_copy: Path, damage: Callable[[Path], None], reason: str
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    damage(checkpoint_copy / "model.safetensors")

    with pytest.raises(CheckpointError, match=reason) as caught:
        load_encoder(str(checkpoint_copy), device="cpu")

    assert str(checkpoint_copy) in str(caught.value)


@pytest.mark.parametrize("model_type", ["no-such-model", None])
def test_an_unknown_architecture_is_refused(checkpoint_copy: Path, model_type: str | None) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    path = checkpoint_copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": model_type}))

    with pytest.raises(CheckpointError, match=r"/config\.json: `model_type` "):
        load_encoder(str(checkpoint_copy), device="cpu")


def test_a_tokenizer_that_is_none_is_refused(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    (checkpoint_copy / "tokenizer.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a tokenizer file"):
        load_encoder(str(checkpoint_copy), device="cpu")


@pytest.mark.parametrize("max_tokens", [8, 64])
def test_a_limit_of_tokens_up_to_the_checkpoints_own_is_taken(
    tiny_checkpoint: Path, max_tokens: int
) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=max_tokens)

    assert encoder.max_tokens == max_tokens


def test_a_limit_of_tokens_over_the_checkpoints_own_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"CLEAR_MAX_TOKENS=65 is over the limit .* \(64\)"):
        load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=65)


@pytest.mark.parametrize("max_tokens", [-1, 0, 7])
def test_a_limit_without_room_for_a_text_is_refused(tiny_checkpoint: Path, max_tokens: int) -> None:
    with pytest.raises(
        CheckpointError, match=f"CLEAR_MAX_TOKENS={max_tokens} is below the smallest"
    ):
        load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=max_tokens)


def test_a_gpu_that_is_not_there_is_refused_before_the_checkpoint_is_read() -> None:
    with pytest.raises(DeviceError, match="the device cuda:99 is not there"):
        load_encoder("no/such/folder", device="cuda:99")


def test_loading_prints_nothing(checkpoint_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(str(checkpoint_copy), device="cpu")

    assert capfd.readouterr() == ("", "")
