import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.manifest import fingerprint_of
from service.retrieval.checkpoint.sides import read_layout, read_sides
from service.retrieval.checkpoint.writer import (
    one_side,
    stating_prompts,
    two_sides,
    with_other_weights,
    write_checkpoint,
)
from service.retrieval.errors import CheckpointError
from tests.conftest import make_checkpoint
from tests.support.layouts import DIM, Folder, dense, static


@pytest.fixture
def layout(tiny_checkpoint: Path) -> CheckpointLayout:
    return read_layout(tiny_checkpoint)


def test_a_written_checkpoint_has_the_layout_that_it_was_given(
    tmp_path: Path, layout: CheckpointLayout
) -> None:
    manifest = write_checkpoint(tmp_path, one_side(layout), name="copy")

    found = read_layout(tmp_path)
    assert (str(found.pooling), found.prompts, found.max_tokens) == ("mean", layout.prompts, 64)
    assert json.loads((tmp_path / "manifest.json").read_text())["name"] == "copy"
    assert "model.safetensors" in manifest.files
    assert (tmp_path / "model.safetensors").read_bytes() == layout.weights[0].read_bytes()


def test_two_sides_are_a_router_that_sentence_transformers_reads(
    tmp_path: Path, layout: CheckpointLayout, tiny_checkpoint: Path
) -> None:
    query = read_layout(make_checkpoint(tmp_path / "query", seed=1))

    (tmp_path / "both").mkdir()
    write_checkpoint(tmp_path / "both", two_sides(query, layout))

    sides = read_sides(tmp_path / "both")
    assert [side.weights[0].read_bytes() for side in sides] == [
        side.weights[0].read_bytes() for side in (query, layout)
    ]
    theirs = SentenceTransformer(str(tmp_path / "both"), device="cpu", local_files_only=True)
    alone = SentenceTransformer(str(tiny_checkpoint), device="cpu", local_files_only=True)
    assert np.array_equal(theirs.encode_document(["Nairobi"]), alone.encode_document(["Nairobi"]))


def test_the_state_dict_replaces_the_query_sides_weights_only(
    tmp_path: Path, layout: CheckpointLayout
) -> None:
    state = {name: 2 * tensor for name, tensor in load_file(layout.weights[0]).items()}

    write_checkpoint(tmp_path, two_sides(layout, layout, state))

    query, passage = (load_file(side.weights[0]) for side in read_sides(tmp_path))
    name = "embeddings.LayerNorm.weight"
    assert query[name].equal(2 * passage[name])


def test_other_weights_change_no_other_file(
    tmp_path: Path, layout: CheckpointLayout, tiny_checkpoint: Path
) -> None:
    state = {name: 2 * tensor for name, tensor in load_file(layout.weights[0]).items()}

    write_checkpoint(tmp_path, with_other_weights(tiny_checkpoint, layout, state), license="MIT")

    changed = {
        path.name
        for path in tiny_checkpoint.rglob("*.*")
        if path.read_bytes() != (tmp_path / path.relative_to(tiny_checkpoint)).read_bytes()
    }
    assert changed == {"model.safetensors", "manifest.json"}


def test_weights_in_other_formats_are_not_copied_beside_other_weights(
    checkpoint_copy: Path,
) -> None:
    """They are those of the encoder before, which another program would load."""
    others = {"pytorch_model.bin", "onnx/model.onnx", "onnx/model.onnx_data", ".git/objects/1"}
    others |= {"consolidated.safetensors"}
    for name in (*others, "merges.txt"):
        (checkpoint_copy / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint_copy / name).write_bytes(b"x")
    layout = read_layout(checkpoint_copy)

    files = with_other_weights(checkpoint_copy, layout, load_file(layout.weights[0]))

    assert {"merges.txt", "tokenizer.json"} < files.keys()
    assert not others & files.keys()


def test_stated_prompts_replace_those_of_retrieval_and_leave_the_rest(
    tmp_path: Path, checkpoint_copy: Path
) -> None:
    config = checkpoint_copy / "config_sentence_transformers.json"
    config.write_text(json.dumps({"similarity_fn_name": "dot", "prompts": {"Clustering": "c: "}}))

    files = stating_prompts(checkpoint_copy, {}, {"query": "q: ", "passage": "p: "})

    content = files["config_sentence_transformers.json"]
    assert isinstance(content, bytes)
    assert json.loads(content)["similarity_fn_name"] == "dot"
    assert json.loads(content)["prompts"] == {
        "Clustering": "c: ",
        "query": "q: ",
        "document": "p: ",
        "passage": "p: ",
    }


def test_a_static_embedding_is_copied_not_written(tmp_path: Path) -> None:
    layout = read_layout(static(potion=True)(tmp_path / "encoder"))

    with pytest.raises(CheckpointError, match="is a StaticEmbedding, which nothing here changes"):
        one_side(layout)


def test_a_written_encoder_has_the_head_and_the_fingerprint_of_its_own(tmp_path: Path) -> None:
    head = (dense(24, "GELU", 2 * DIM), ("LayerNorm", {"dimension": 24}), ("Normalize", {}))
    pooling = {"pooling_mode": ["mean", "cls"], "include_prompt": False}
    folder = Folder(pooling=pooling, head=head)(tmp_path / "own")
    layout = read_layout(folder)
    for name in ("written", "both"):
        (tmp_path / name).mkdir()

    write_checkpoint(tmp_path / "written", one_side(layout))
    write_checkpoint(tmp_path / "both", two_sides(layout, layout))

    own = fingerprint_of(folder, layout)
    for name in ("written", "both"):
        assert fingerprint_of(tmp_path / name, read_layout(tmp_path / name)) == own
