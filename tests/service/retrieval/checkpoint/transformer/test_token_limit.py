import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.support.architectures import make_encoder


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )


@pytest.mark.parametrize(
    ("config", "sentence_bert", "tokenizer", "expected"),
    [
        (64, 32, 48, 32),
        (64, 48, 32, 48),
        (64, 128, 32, 64),
        (64, None, 48, 48),
        (64, None, None, 64),
        (64, None, int(1e30), 64),
        (None, 32, None, 32),
    ],
)
def test_the_limit_is_that_of_sentence_transformers(
    checkpoint_copy: Path,
    config: int | None,
    sentence_bert: int | None,
    tokenizer: int | None,
    expected: int,
) -> None:
    edit(checkpoint_copy / "config.json", max_position_embeddings=config)
    edit(checkpoint_copy / "sentence_bert_config.json", max_seq_length=sentence_bert)
    edit(checkpoint_copy / "tokenizer_config.json", model_max_length=tokenizer)

    assert read_layout(checkpoint_copy).max_tokens == expected


def test_roberta_loses_the_positions_up_to_its_padding(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / "config.json", model_type="xlm-roberta", max_position_embeddings=514)
    (checkpoint_copy / "sentence_bert_config.json").unlink()
    (checkpoint_copy / "tokenizer_config.json").unlink()

    assert read_layout(checkpoint_copy).max_tokens == 512


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("config.json", "max_position_embeddings"),
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ],
)
@pytest.mark.parametrize(
    ("limit", "violation"),
    [
        (float("inf"), "is not a whole number"),
        (float("nan"), "is not a whole number"),
        (True, "is not a whole number"),
        (9.5, "must be a valid integer|is not a whole number"),
        ("64", "is not a whole number"),
        (7, "must be greater than or equal to 8"),
        (0, "must be greater than or equal to 8"),
        (-1, "must be greater than or equal to 8"),
    ],
)
def test_a_limit_that_is_no_number_of_tokens_is_refused_by_file_and_field(
    checkpoint_copy: Path, name: str, field: str, limit: object, violation: str
) -> None:
    edit(checkpoint_copy / name, **{field: limit})

    with pytest.raises(CheckpointError, match=f"/{name}: `{field}` ({violation}): set it to"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize("number", ["1e999", "Infinity"])
def test_a_limit_that_overflows_is_refused(checkpoint_copy: Path, number: str) -> None:
    (checkpoint_copy / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {number}}}')

    with pytest.raises(CheckpointError, match="`max_seq_length` is not a whole number"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize("padding", ["null", "-1", "true", '"1"'])
def test_a_roberta_without_a_padding_id_is_refused(checkpoint_copy: Path, padding: str) -> None:
    path = checkpoint_copy / "config.json"
    edit(path, model_type="roberta", pad_token_id=0)
    path.write_text(path.read_text().replace('"pad_token_id": 0', f'"pad_token_id": {padding}'))

    with pytest.raises(CheckpointError, match=r"/config\.json: `pad_token_id` "):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize(
    ("padding", "reason"),
    [(60, "leaves fewer than 8 positions"), (10**400, "is not below `vocab_size`, which is ")],
)
def test_a_padding_id_beyond_the_positions_or_the_vocabulary_is_refused(
    checkpoint_copy: Path, padding: int, reason: str
) -> None:
    edit(checkpoint_copy / "config.json", model_type="roberta", pad_token_id=padding)

    with pytest.raises(CheckpointError, match=rf"/config\.json: `pad_token_id` {reason}"):
        read_layout(checkpoint_copy)


def test_limits_that_mean_no_limit_are_no_limit(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / "config.json", max_position_embeddings=10**400)
    edit(checkpoint_copy / "sentence_bert_config.json", max_seq_length=None)
    edit(checkpoint_copy / "tokenizer_config.json", model_max_length=int(1e30))

    with pytest.raises(CheckpointError, match="names no limit of tokens"):
        read_layout(checkpoint_copy)


NAMES = (
    *("sentence_bert_config.json", "sentence_roberta_config.json"),
    *("sentence_distilbert_config.json", "sentence_camembert_config.json"),
    *("sentence_albert_config.json", "sentence_xlm-roberta_config.json"),
    "sentence_xlnet_config.json",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_former_name_of_the_sentence_configuration_is_read(
    checkpoint_copy: Path, name: str
) -> None:
    (checkpoint_copy / "sentence_bert_config.json").unlink()
    (checkpoint_copy / NAMES[-1]).write_text('{"max_seq_length": 16}')
    (checkpoint_copy / name).write_text('{"max_seq_length": 24}')  # the first one is read

    theirs = SentenceTransformer(str(checkpoint_copy), device="cpu")
    assert read_layout(checkpoint_copy).max_tokens == theirs.max_seq_length == 24


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ({}, 48),
        ({"max_seq_length": 32, "processor_kwargs": {"model_max_length": 24}}, 24),
        ({"tokenizer_args": {"model_max_length": 24}}, 24),
        ({"model_args": {"attn_implementation": "eager"}}, 48),
        ({"transformer_task": "feature-extraction"}, 48),
    ],
)
def test_options_of_the_sentence_configuration_are_those_of_sentence_transformers(
    checkpoint_copy: Path, sentence: dict[str, object], expected: int
) -> None:
    edit(checkpoint_copy / "tokenizer_config.json", model_max_length=48)
    (checkpoint_copy / "sentence_bert_config.json").write_text(json.dumps(sentence))

    theirs = SentenceTransformer(str(checkpoint_copy), device="cpu")
    assert read_layout(checkpoint_copy).max_tokens == theirs.max_seq_length == expected


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ({"config_args": {"num_hidden_layers": 1}}, "`config_args` changes how the encoder is"),
        ({"model_kwargs": [1]}, "`model_kwargs` changes how the encoder is loaded"),
        ({"transformer_task": "fill-mask"}, "`transformer_task` and `modality_config` ask for"),
        ({"query_length": 32}, "`query_length` must be null"),
        ({"query_expansion": {"strategy": "fixed"}}, "`query_expansion` must be null"),
        ({"processing_kwargs": {"text": {"padding": 3}}}, "`processing_kwargs` must be empty"),
        ({"tokenizer_name_or_path": "other"}, "`tokenizer_name_or_path` must be null"),
    ],
)
def test_an_option_that_changes_embeddings_is_refused_by_file_and_field(
    checkpoint_copy: Path, sentence: dict[str, object], reason: str
) -> None:
    (checkpoint_copy / "sentence_bert_config.json").write_text(json.dumps(sentence))

    with pytest.raises(CheckpointError, match=rf"/sentence_bert_config\.json: {reason}"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("t5", {"n_positions": 32}),
        ("mt5", {"n_positions": 32}),
        ("deberta-v2", {"position_biased_input": False}),
    ],
)
@pytest.mark.parametrize("stated", [100, None])
def test_relative_positions_do_not_bound_the_limit(
    tmp_path: Path, architecture: str, config: dict[str, object], stated: int | None
) -> None:
    folder = make_encoder(tmp_path / architecture, architecture)
    edit(folder / "config.json", **config)
    edit(folder / "sentence_bert_config.json", max_seq_length=stated)

    theirs = SentenceTransformer(str(folder), device="cpu").max_seq_length
    assert read_layout(folder).max_tokens == theirs == (stated or 64)


def test_t5_without_a_stated_limit_has_none(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "t5", "t5")
    edit(folder / "config.json", n_positions=32)
    for name in ("sentence_bert_config.json", "tokenizer_config.json"):
        (folder / name).unlink()

    with pytest.raises(CheckpointError, match="names no limit of tokens: add max_seq_length"):
        read_layout(folder)


@pytest.mark.parametrize("architecture", ["camembert", "mpnet", "xlm-roberta", "bert"])
def test_a_text_of_all_positions_is_embedded_as_sentence_transformers_does(
    tmp_path: Path, architecture: str
) -> None:
    """sentence-transformers fails beyond the positions; here a text is cut at the last one."""
    folder = make_encoder(tmp_path / architecture, architecture)
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    expected = positions - (0 if architecture == "bert" else 2)
    edit(folder / "sentence_bert_config.json", max_seq_length=1000)

    encoder = load_encoder(str(folder), device="cpu")

    theirs = SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = expected
    text = " ".join(map(str, range(500)))
    assert encoder.max_tokens == expected
    found = encoder.encode([text], "query").embeddings
    np.testing.assert_allclose(found, theirs.encode_query([text]), atol=1e-5)
