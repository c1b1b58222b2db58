import json
from pathlib import Path

import pytest

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": ...}, "`model_type` is missing: name the architecture, such as bert"),
        ({"model_type": ""}, "`model_type` "),
        ({"model_type": 7}, "`model_type` is not text"),
        ({"hidden_size": "32"}, "`hidden_size` is not a whole number"),
        ({"hidden_size": -32}, "`hidden_size` must be greater than or equal to 1"),
        ({"hidden_size": 0}, "`hidden_size` must be greater than or equal to 1"),
        ({"hidden_size": 10**400}, "`hidden_size` must be less than or equal to"),
        ({"hidden_size": [32]}, "`hidden_size` is not a whole number"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` must be greater than or equal to 1"),
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers` must be less than or equal to 1024"),
        ({"num_attention_heads": True}, "`num_attention_heads` is not a whole number"),
        ({"num_attention_heads": 5}, "`num_attention_heads` 5 does not divide `hidden_size` 32"),
        (
            {"num_attention_heads": 4, "num_key_value_heads": 3},
            "`num_key_value_heads` 3 does not divide `num_attention_heads` 4",
        ),
        ({"intermediate_size": -1}, "`intermediate_size` must be greater than or equal to 1"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "`quantization_config` says .*: name the unquantized encoder or base",
        ),
        ({"vocab_size": 0}, "`vocab_size` must be greater than or equal to 1"),
        ({"vocab_size": None}, "`vocab_size` is not a whole number"),
        ({"pad_token_id": -1}, "`pad_token_id` must be greater than or equal to 0"),
        ({"pad_token_id": "<pad>"}, "`pad_token_id` is not a whole number"),
        ({"pad_token_id": 512}, "`pad_token_id` is not below `vocab_size`, which is "),
        ({"type_vocab_size": 1.5}, "`type_vocab_size` "),
        ({"layer_norm_eps": "tiny"}, "`layer_norm_eps` is not a number"),
        ({"layer_norm_eps": -1.0}, "`layer_norm_eps` must be greater than 0"),
        ({"layer_norm_eps": float("nan")}, "`layer_norm_eps` is not a finite number"),
        ({"hidden_act": 3}, "`hidden_act` is not text"),
        ({"hidden_dropout_prob": 2}, "`hidden_dropout_prob` must be less than or equal to 1"),
    ],
)
def test_an_odd_configuration_is_refused_by_file_and_field(
    checkpoint_copy: Path, changes: dict[str, object], reason: str
) -> None:
    edit(checkpoint_copy / "config.json", **changes)

    with pytest.raises(CheckpointError, match=rf"/config\.json: {reason}"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "nobert"}, "`model_type` 'nobert' is not an architecture of transformers"),
        ({"hidden_act": "foo"}, "`hidden_act` 'foo' is not an activation of transformers"),
        ({"hidden_size": None}, "`hidden_size` is not a whole number"),
        ({"is_decoder": "no"}, "`is_decoder` is not true or false"),
        ({"classifier_dropout": []}, "`classifier_dropout` is not a number"),
    ],
)
def test_a_field_that_only_the_architecture_knows_is_refused_in_our_words(
    checkpoint_copy: Path, changes: dict[str, object], reason: str
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    edit(checkpoint_copy / "config.json", **changes)

    with pytest.raises(CheckpointError, match=rf"/config\.json: {reason}") as caught:
        load_encoder(str(checkpoint_copy), device="cpu")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 64}, r"is \[32\] in the file and \[64\] by the configuration:"),
        ({"intermediate_size": 32}, "in the file and .* by the configuration: restore"),
        (
            {"intermediate_size": ...},
            "in the file and .* by the configuration, which lacks `intermediate_size`: restore",
        ),
        (
            {"hidden_size": ..., "vocab_size": ...},
            "in the file and .* by the configuration, which lacks .*`hidden_size`",
        ),
    ],
)
def test_a_configuration_of_other_weights_is_refused_by_tensor_and_sizes(
    checkpoint_copy: Path, changes: dict[str, object], reason: str
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    edit(checkpoint_copy / "config.json", **changes)

    with pytest.raises(CheckpointError, match=rf"/config\.json does not belong .*{reason}"):
        load_encoder(str(checkpoint_copy), device="cpu")
