import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.static import load_static_embedding
from service.retrieval.errors import CheckpointError
from tests.conftest import cut_short
from tests.support.layouts import DIM, static


def test_mapping_and_weights_of_tokens_make_the_table(tmp_path: Path) -> None:
    folder = static(potion=True, compressed=True)(tmp_path / "encoder")
    tensors = load_file(folder / "model.safetensors")

    table = load_static_embedding(read_layout(folder)).embedding.weight

    token_id = 7
    row = tensors["embeddings"][tensors["mapping"][token_id]] * tensors["weights"][token_id]
    assert table.shape == (len(tensors["mapping"]), DIM)
    torch.testing.assert_close(table[token_id], row)


def test_texts_have_no_special_tokens_and_no_limit_of_their_own(tmp_path: Path) -> None:
    folder = static(potion=False)(tmp_path / "encoder")

    encoder = load_encoder(str(folder), device="cpu")

    assert encoder.max_tokens == 8192
    token_ids = encoder.tokenize(["tea"], "query")[0].token_ids
    assert token_ids == encoder.tokenizer.encode("tea", add_special_tokens=False).ids


def truncate(folder: Path, limit: object) -> None:
    path = folder / "0_StaticEmbedding/tokenizer.json"
    truncation = {"direction": "Left", "strategy": "LongestFirst", "stride": 0}
    content = json.loads(path.read_text()) | {"truncation": truncation | {"max_length": limit}}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("limit", [1, 4, 12])
def test_a_tokenizer_that_truncates_sets_the_limit(tmp_path: Path, limit: int) -> None:
    folder = static(potion=False)(tmp_path / "encoder")
    truncate(folder, limit)

    encoder = load_encoder(str(folder), device="cpu")

    assert encoder.max_tokens == limit
    theirs = SentenceTransformer(str(folder), device="cpu")
    text = "tea Lima kora Nairobi beans " * 4
    found = encoder.encode([text], "passage").embeddings
    np.testing.assert_allclose(found, theirs.encode_document([text]), atol=1e-6)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "12", True])
def test_a_truncation_to_no_number_of_tokens_is_refused(tmp_path: Path, limit: object) -> None:
    folder = static(potion=False)(tmp_path / "encoder")
    truncate(folder, limit)

    with pytest.raises(CheckpointError, match=r"tokenizer\.json: `max_length` of `truncation` is"):
        read_layout(folder)


@pytest.mark.parametrize("damage", ["cut short", "without a table"])
def test_weights_without_a_table_are_refused(tmp_path: Path, damage: str) -> None:
    folder = static(potion=True)(tmp_path / "encoder")
    weights = folder / "model.safetensors"
    if damage == "cut short":
        cut_short(weights)
    else:
        save_file({"other": torch.ones(2, 2)}, weights)

    with pytest.raises(CheckpointError, match="does not hold the table of a StaticEmbedding"):
        load_encoder(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = static(potion=True)(tmp_path / "encoder")
    (folder / name).unlink()

    with pytest.raises(CheckpointError, match=f"{name} is missing: save the encoder again"):
        read_layout(folder)
