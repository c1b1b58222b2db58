"""Query-side adapters: the change of the weights, and the adapters that are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from service.retrieval.checkpoint import locator
from service.retrieval.checkpoint.adapter import Adapter, AdapterDescription, merge_adapter
from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.conftest import cut_short, flip_bit, make_adapter, make_checkpoint

TEXTS = ["Where is Nairobi?", "Je, mji mkuu wa Kenya ni upi?", "a very long text " * 40]
QUERY = "encoder.layer.0.attention.self.query"


@pytest.fixture
def adapter_copy(tmp_path: Path, tuned_checkpoint: Path) -> Path:
    """A copy of the adapter that the test may alter."""
    return Path(shutil.copytree(tuned_checkpoint, tmp_path / "adapter"))


DESCRIPTION = AdapterDescription(
    format_version=2, side="query", base_fingerprint="f" * 64, passage_fingerprint="f" * 64
)


def pair(outputs: list[list[float]], inputs: list[list[float]]) -> tuple[Tensor, Tensor]:
    return torch.tensor(inputs).half(), torch.tensor(outputs).half()


def test_the_scaled_product_of_a_pair_is_added_to_the_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    # B A = [[1], [2]] [[3, 4]] = [[3, 4], [6, 8]]
    pairs = {"0": pair([[1.0], [2.0]], [[3.0, 4.0]])}

    merge_adapter(model, Adapter(Path("a"), DESCRIPTION, 0.5, pairs, "0" * 64))

    assert model[0].weight.tolist() == [[2.5, 4.0], [6.0, 8.0]]


def test_queries_are_embedded_by_the_merged_weights_and_passages_by_the_base(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder, tuned_checkpoint: Path
) -> None:
    merged = Path(shutil.copytree(tiny_checkpoint, tmp_path / "merged"))
    (merged / "manifest.json").unlink()
    weights, adapter = load_file(merged / "model.safetensors"), read_adapter(tuned_checkpoint)
    for name, (lora_a, lora_b) in adapter.pairs.items():
        weights[f"{name}.weight"] += 0.0625 * lora_b.float() @ lora_a.float()
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})

    tuned = load_encoder(str(tuned_checkpoint), device="cpu")

    expected = load_encoder(str(merged), device="cpu").encode(TEXTS, "query").embeddings
    assert tuned.encode(TEXTS, "query").embeddings.tobytes() == expected.tobytes()
    base = {role: tiny_encoder.encode(TEXTS, role).embeddings for role in ("query", "passage")}  # type: ignore[arg-type]
    assert tuned.encode(TEXTS, "passage").embeddings.tobytes() == base["passage"].tobytes()
    assert np.abs(expected - base["query"]).max() > 0.01


def test_the_fingerprint_is_of_the_query_side_and_the_index_is_of_the_passage_side(
    tuned_encoder: Encoder, tiny_encoder: Encoder
) -> None:
    assert tuned_encoder.passage_fingerprint == tiny_encoder.fingerprint
    assert tuned_encoder.fingerprint != tiny_encoder.fingerprint
    assert tuned_encoder.side("passage").fingerprint == tiny_encoder.fingerprint
    assert tuned_encoder.has_two_sides
    assert not tiny_encoder.has_two_sides


def test_the_scale_is_part_of_the_fingerprint(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder, tuned_encoder: Encoder
) -> None:
    half = make_adapter(tmp_path / "half", tiny_encoder, base=str(tiny_checkpoint), scale=0.03125)

    found = load_encoder(str(half), device="cpu")

    assert found.fingerprint != tuned_encoder.fingerprint
    assert found.passage_fingerprint == tuned_encoder.passage_fingerprint


def test_an_adapter_of_scale_0_is_the_base(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    nothing = make_adapter(tmp_path / "nothing", tiny_encoder, base=str(tiny_checkpoint), scale=0.0)

    found = load_encoder(str(nothing), device="cpu").encode(TEXTS, "query").embeddings

    assert found.tobytes() == tiny_encoder.encode(TEXTS, "query").embeddings.tobytes()


def test_an_adapter_beside_the_weights_is_found_and_is_not_part_of_the_base(
    checkpoint_copy: Path, tiny_encoder: Encoder, tuned_encoder: Encoder
) -> None:
    make_adapter(checkpoint_copy, tiny_encoder, base=None)

    found = load_encoder(str(checkpoint_copy), device="cpu")

    assert found.fingerprint == tuned_encoder.fingerprint
    assert found.passage_fingerprint == tiny_encoder.fingerprint


def test_the_two_sides_share_the_weights_that_the_adapter_does_not_change(
    tuned_checkpoint: Path, loaded_models: list[PreTrainedModel]
) -> None:
    encoder = load_encoder(str(tuned_checkpoint), device="cpu")
    assert len(loaded_models) == 1  # passages load theirs when they come
    encoder.encode(TEXTS, "passage")
    query, passage = (dict(model.named_parameters()) for model in loaded_models)

    own = {name for name in query if query[name].data_ptr() != passage[name].data_ptr()}

    assert own == {
        f"encoder.layer.{layer}.{name}.weight"
        for layer in range(2)
        for name in ("attention.self.query", "intermediate.dense")
    }


def described(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        content = load_file(folder / "adapter.safetensors")
        change(content)
        save_file(content, folder / "adapter.safetensors")

    return rewrite


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    def change(content: dict[str, Tensor]) -> None:
        for letter in "ab":
            content[f"{new}.lora_{letter}"] = content.pop(f"{old}.lora_{letter}")

    return change


def put(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda content: content.update({name: tensor})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "adapter.json").write_text("[1"), "json is not valid JSON"),
        (lambda folder: (folder / "adapter.json").write_text("[]"), "json is not a JSON object"),
        (described(format_version=3), "`format_version` is 3, this program reads versions 1 and 2"),
        (described(format_version=None), "json: `format_version` is None"),
        (described(side="passage"), "json: `side` must be 'query'"),
        (described(rank=0), "json: `rank` must be greater than or equal to 1"),
        (described(rank=True), "json: `rank` is not a whole number"),
        (described(rank="4"), "json: `rank` is not a whole number"),
        (described(scale=None), "json: `scale` is not a number"),
        (described(scale=float("nan")), "json: `scale` is not a finite number"),
        (described(scale=float("inf")), "json: `scale` is not a finite number"),
        (described(scale=10**400), "json: `scale` is not a number"),
        (described(base_fingerprint=None), "json: `base_fingerprint` is not text"),
        (described(passage_fingerprint=7), "json: `passage_fingerprint` is not text"),
        (described(passage_fingerprint=""), "json: `passage_fingerprint` is empty"),
        (
            described(base_fingerprint="f" * 64),
            "json: `base_fingerprint` is 'ffffffffffffffff', the",
        ),
        (described(passage_fingerprint="e" * 64), "json: `passage_fingerprint` is 'eeeeeeeeeeeeee"),
        (described(weights_sha256="0" * 64), "safetensors was altered"),
        (described(weights_sha256=""), "json: `weights_sha256` is not a sha256 of 64 hexadecimal"),
        (described(weights_sha256="F" * 64), "json: `weights_sha256` is not a sha256 of 64"),
        (described(weights_sha256=7), "json: `weights_sha256` is not a sha256 of 64"),
        (described(rank=10**400), "json: `rank` must be less than or equal to 65536"),
        (described(format_version=10**400), r"json: `format_version` is 10{76}\.\.\., this"),
        (described(format_version="2\n"), r"json: `format_version` is '2\\n', this"),
        (described(base_fingerprint="a\n\0b"), r"json: `base_fingerprint` is 'a\\n\\x00b', the"),
        (described(base="/no/such"), "json: `base`: the encoder /no/such does not exist: name"),
        *(
            (described(base=name), "json: `base` is not the name of an encoder")
            for name in ("a\nb", "a\0b", "x" * 300, "x/" * 3000)
        ),
        (described(base=3), "json: `base` is not the name of an encoder"),
        (lambda folder: (folder / "adapter.safetensors").unlink(), "safetensors cannot be read"),
        (lambda folder: cut_short(folder / "adapter.safetensors"), "safetensors cannot be read"),
        (lambda folder: (folder / "adapter.safetensors").write_bytes(b"\x80\x04N."), "be read"),
        (tensors(dict.clear), "safetensors holds no tensors"),
        (tensors(put("x.weight", torch.ones(2, 2))), "x.weight' is not named <module>.lora_a or"),
        (
            tensors(lambda content: content.pop(f"{QUERY}.lora_b")),
            "lora_a' has no .*lora_b' beside it",
        ),
        (
            tensors(lambda content: content.pop(f"{QUERY}.lora_a")),
            "lora_b' has no .*lora_a' beside it",
        ),
        (
            tensors(put(f"{QUERY}.lora_a", torch.ones(5, 32).half())),
            r"query.lora_a' has the shape \[5, 32\], not \[rank, inputs\] with rank 4",
        ),
        (
            tensors(put(f"{QUERY}.lora_b", torch.ones(32).half())),
            r"query.lora_b' has the shape \[32\], not \[outputs, rank\] with rank 4",
        ),
        (
            tensors(put(f"{QUERY}.lora_b", torch.ones(31, 4).half())),
            r"B times A of .*query' has the shape \[31, 32\], the base's weights are \[32, 32\]",
        ),
        (
            tensors(put(f"{QUERY}.lora_a", torch.full((4, 32), torch.nan).half())),
            "query.lora_a' has a value that is not a finite number",
        ),
        (
            tensors(put(f"{QUERY}.lora_a", torch.ones(4, 32, dtype=torch.int8))),
            "query.lora_a' is torch.int8, not fp16",
        ),
        (tensors(rename(QUERY, "encoder.layer.9.query")), "layer.9.query' is not a linear module"),
        (tensors(rename(QUERY, "embeddings.LayerNorm")), "LayerNorm' is not a linear module"),
        (described(scale=1e38), "makes weights that are not finite numbers"),
    ],
)
def test_a_broken_adapter_is_refused_with_file_and_field(
    adapter_copy: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(adapter_copy)

    with pytest.raises(CheckpointError, match=reason):
        load_encoder(str(adapter_copy), device="cpu")


def test_a_flipped_bit_is_found_if_the_description_has_the_hash(adapter_copy: Path) -> None:
    described(weights_sha256=read_adapter(adapter_copy).weights_sha256)(adapter_copy)
    load_encoder(str(adapter_copy), device="cpu")

    flip_bit(adapter_copy / "adapter.safetensors")

    with pytest.raises(CheckpointError, match="was altered"):
        load_encoder(str(adapter_copy), device="cpu")


def test_an_adapter_of_an_adapter_is_refused(adapter_copy: Path, tuned_checkpoint: Path) -> None:
    described(base=str(tuned_checkpoint))(adapter_copy)

    with pytest.raises(CheckpointError, match="`base` is not the name of an encoder without an"):
        load_encoder(str(adapter_copy), device="cpu")


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    """Replace the bundled encoder by a tiny one."""
    monkeypatch.setattr(locator, "bundled_checkpoint", lambda cache: tiny_checkpoint)


@pytest.mark.usefixtures("bundled")
def test_bundled_has_the_committed_adapter_and_bundled_base_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Encoder
) -> None:
    committed = make_adapter(tmp_path / "committed", tiny_encoder, base=None)
    monkeypatch.setattr(locator, "BUNDLED_ADAPTER", committed)

    tuned, base = (load_encoder(name, device="cpu") for name in ("bundled", "bundled-base"))

    assert (tuned.name, base.name) == ("bundled", "bundled-base")
    assert (tuned.has_two_sides, base.has_two_sides) == (True, False)
    assert base.fingerprint == tuned.passage_fingerprint == tiny_encoder.fingerprint


@pytest.mark.usefixtures("bundled")
def test_bundled_is_the_base_if_no_adapter_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Encoder
) -> None:
    monkeypatch.setattr(locator, "BUNDLED_ADAPTER", tmp_path / "none")

    encoder = load_encoder("bundled", device="cpu")

    assert (encoder.name, encoder.has_two_sides) == ("bundled", False)
    assert encoder.fingerprint == tiny_encoder.fingerprint


@pytest.mark.usefixtures("bundled")
def test_an_adapter_that_names_no_base_changes_the_bundled_encoder(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = make_adapter(tmp_path / "mine", tiny_encoder, base=None)

    encoder = load_encoder(str(folder), device="cpu")

    assert (encoder.name, encoder.has_two_sides) == ("tiny-mean-0+mine", True)


def test_an_adapter_beside_the_weights_of_another_encoder_is_refused(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    make_adapter(other, tiny_encoder)

    with pytest.raises(CheckpointError, match="`base_fingerprint` is"):
        load_encoder(str(other), device="cpu")
