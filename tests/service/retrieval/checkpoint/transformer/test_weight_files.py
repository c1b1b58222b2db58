from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import BertModel

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.checkpoint.transformer.weight_files import conversion_command, find_weights
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.conftest import run_script

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture
def sharded(checkpoint_copy: Path) -> Path:
    """A checkpoint whose weights are in several files, named by an index."""
    (checkpoint_copy / "manifest.json").unlink()
    model = BertModel.from_pretrained(checkpoint_copy)
    (checkpoint_copy / "model.safetensors").unlink()
    model.save_pretrained(checkpoint_copy, max_shard_size="40KB")
    return checkpoint_copy


def test_shards_are_read_by_their_index(sharded: Path, tiny_checkpoint: Path) -> None:
    (sharded / "consolidated.safetensors").write_bytes(b"not one of them")

    encoder, whole = (load_encoder(str(at), device="cpu") for at in (sharded, tiny_checkpoint))

    names = [path.name for path in read_layout(sharded).weights]
    assert len(names) > 2
    assert names == sorted(path.name for path in sharded.glob("model-*.safetensors"))
    ours = encoder.encode(["Lima"], "query").embeddings
    assert (ours == whole.encode(["Lima"], "query").embeddings).all()
    theirs = SentenceTransformer(str(sharded), device="cpu").encode(["query: Lima"])
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-5, rtol=0)


def test_a_file_beside_the_weights_is_not_read(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    (checkpoint_copy / "other.safetensors").write_bytes(b"no weights")

    assert find_weights(checkpoint_copy) == (checkpoint_copy / "model.safetensors",)
    assert load_encoder(str(checkpoint_copy), device="cpu").embedding_dim == 32


def replaced(*names: str, content: str = "x") -> Callable[[Path], None]:
    """Return a change of a folder: its weights away, other files there."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)

    return change


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            replaced("colbert_linear.pt", "onnx/model.onnx", "pytorch_model.bin"),
            r"'pytorch_model\.bin', and pickled weights are never read, as they can run code: "
            r"convert them by `python -c .*save_pretrained",
        ),
        (replaced("onnx/model.onnx"), r"'onnx/model\.onnx', which is ONNX: name the repository of"),
        (replaced("tf_model.h5"), r"'tf_model\.h5', which is TensorFlow: name the repository of"),
        (replaced("model-q8.gguf"), r"'model-q8\.gguf', which is GGUF: name the repository of"),
        (replaced(), r"neither fetched from the Hub nor read: .*docs/encoders\.md"),
        (
            replaced("weights.safetensors"),
            r"'weights\.safetensors': rename it to model\.safetensors",
        ),
        (
            replaced("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
            r"safetensors\.index\.json is missing beside 'model-00001-of-00002\.safetensors'",
        ),
        (replaced("model.safetensors", content=POINTER), "model.safetensors is a git-lfs pointer"),
        (replaced(INDEX, content=POINTER), f"{INDEX} is a git-lfs pointer, .*`git lfs pull` in"),
        (replaced(INDEX, content="{}"), f"{INDEX}: `weight_map` is missing"),
        (replaced(INDEX, content='{"weight_map": {}}'), f"{INDEX}: `weight_map` is empty"),
        (
            replaced(INDEX, content='{"weight_map": {"a": 3}}'),
            f"{INDEX}: `weight_map.a` is not text",
        ),
        (
            replaced(INDEX, content='{"weight_map": {"a": "../a.safetensors"}}'),
            rf"{INDEX} names '\.\./a\.safetensors', which is no \.safetensors file of its folder",
        ),
        (
            replaced(INDEX, content='{"weight_map": {"a": "pytorch_model.bin"}}'),
            r"'pytorch_model\.bin', which is no \.safetensors file",
        ),
        (
            replaced(INDEX, content='{"weight_map": {"a": "a.safetensors"}}'),
            r"'a\.safetensors', which is missing: download",
        ),
    ],
)
def test_other_weights_are_refused_by_file_reason_and_command(
    checkpoint_copy: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(checkpoint_copy)

    with pytest.raises(CheckpointError, match=reason) as caught:
        read_layout(checkpoint_copy)

    assert str(checkpoint_copy) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer_config.json"])
def test_a_json_file_that_git_lfs_has_not_fetched_is_named(
    checkpoint_copy: Path, name: str
) -> None:
    (checkpoint_copy / name).write_text(POINTER)

    with pytest.raises(CheckpointError, match=rf"/{name} is a git-lfs pointer, .*`git lfs pull`"):
        read_layout(checkpoint_copy)


@pytest.mark.slow
def test_the_command_that_is_named_converts_pickled_weights(checkpoint_copy: Path) -> None:
    weights = checkpoint_copy / "model.safetensors"
    before = load_file(weights)
    torch.save(before, checkpoint_copy / "pytorch_model.bin")
    weights.unlink()

    command = conversion_command(checkpoint_copy)
    done = run_script(command.partition('"')[2].removesuffix('"'))

    assert done.returncode == 0, done.stderr
    after = load_file(weights)
    assert all(bool((after[name] == tensor).all()) for name, tensor in before.items())
