import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service.retrieval.checkpoint.saved_weights import save_weights
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.checkpoint.writer import two_sides, with_other_weights


def test_a_pooler_that_the_encoder_did_not_have_is_left_out(checkpoint_copy: Path) -> None:
    """It is never used, and transformers makes it up."""
    path = checkpoint_copy / "model.safetensors"
    state = load_file(path)
    save_weights(path, {name: state[name] for name in state if "pooler" not in name})

    files = with_other_weights(checkpoint_copy, read_layout(checkpoint_copy), state)

    written = files["model.safetensors"]
    assert isinstance(written, dict)
    assert written.keys() == load_file(path).keys() < state.keys()


def test_tied_weights_are_saved_by_their_first_name(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    state = {"shared.weight": table, "encoder.weight": table, "equal": table.clone()}

    save_weights(tmp_path / "model.safetensors", state | {"transposed": table.T})

    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == {"shared.weight", "equal", "transposed"}
    assert all(found[name].equal(table) for name in ("shared.weight", "equal"))
    assert found["transposed"].equal(table.T)


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_a_config_names_the_precision_of_other_weights(checkpoint_copy: Path, field: str) -> None:
    """Loaded by transformers, weights that are trained in fp32 would be rounded to bf16 again."""
    path = checkpoint_copy / "config.json"
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "dtype"}
    path.write_text(json.dumps(content | {field: "bfloat16"}))
    layout = read_layout(checkpoint_copy)
    state = load_file(layout.weights[0])

    files = with_other_weights(checkpoint_copy, layout, state)
    sides = two_sides(layout, layout, state)

    for written in (files["config.json"], sides["query_0_Transformer/config.json"]):
        assert isinstance(written, bytes)
        assert json.loads(written) == content | {field: "float32"}
    assert sides["document_0_Transformer/config.json"] == path
