import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.manifest import verify_manifest
from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError
from tests.conftest import make_adapter, make_checkpoint
from trainer.blend.sweep import load_blend
from trainer.blend.weights import interpolate, open_pair, write_blend
from trainer.errors import DataError
from trainer.report.run import EncoderOptions

TEXTS = ["Where is Nairobi?", "Je, mji mkuu wa Kenya ni upi?"]


@pytest.fixture(scope="session")
def query_encoder(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """A query encoder with full weights, as if trained for `tiny_encoder`'s passages."""
    return make_checkpoint(
        tmp_path_factory.mktemp("query") / "tuned",
        seed=1,
        passage_fingerprint=tiny_encoder.fingerprint,
        training={"seed": 1},
    )


def embed(folder: Path, role: Role = "query") -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return load_encoder(str(folder), device="cpu").encode(TEXTS, role).embeddings


def test_weights_are_interpolated_and_the_ends_are_exact() -> None:
    base = {"w": torch.tensor([0.1, 2.0]), "n": torch.tensor([1])}
    tuned = {"w": torch.tensor([0.3, 4.0]), "n": torch.tensor([7])}

    assert interpolate(base, tuned, 0.0)["w"].tolist() == base["w"].tolist()
    assert interpolate(base, tuned, 1.0)["w"].tolist() == tuned["w"].tolist()
    assert interpolate(base, tuned, 0.25)["w"].tolist() == pytest.approx([0.15, 2.5])
    assert interpolate(base, tuned, 0.25)["n"].tolist() == [7]


@pytest.mark.parametrize(
    "other", [{}, {"w": torch.ones(3)}, {"w": torch.ones(2), "v": torch.ones(1)}]
)
def test_weights_that_do_not_match_are_refused(other: dict[str, Tensor]) -> None:
    with pytest.raises(
        CheckpointError, match="missing in one of the encoders, or has another shape"
    ):
        interpolate({"w": torch.ones(2)}, other, 0.5)


def test_a_pooler_that_only_one_side_has_is_ignored() -> None:
    pooler = {"pooler.dense.weight": torch.ones(1)}

    assert interpolate({"w": torch.ones(1)} | pooler, {"w": torch.ones(1)}, 0.5).keys() == {"w"}


def test_an_adapter_is_blended_by_its_scale(
    tmp_path: Path, tiny_checkpoint: Path, tuned_checkpoint: Path
) -> None:
    pair = open_pair(str(tiny_checkpoint), str(tuned_checkpoint), tmp_path)

    write_blend(pair, 0.5, tmp_path / "blend", note="half")

    description = json.loads((tmp_path / "blend/adapter.json").read_text())
    assert read_adapter(tmp_path / "blend").scale == 0.03125
    assert description["note"] == "half"
    assert description["blend"]["share"] == 0.5
    folders = (tmp_path / "blend", tiny_checkpoint, tuned_checkpoint)
    models = [load_model(open_checkpoint(str(each), tmp_path).query) for each in folders]
    for parameter, *between in zip(*(each.parameters() for each in models), strict=True):
        torch.testing.assert_close(parameter, torch.lerp(*between, 0.5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_of_a_blend_of_full_weights_are_base_and_tuned(
    tmp_path: Path, tiny_checkpoint: Path, query_encoder: Path, share: float
) -> None:
    pair = open_pair(str(tiny_checkpoint), str(query_encoder), tmp_path)

    write_blend(pair, share, tmp_path / "blend")

    expected = embed(query_encoder if share else tiny_checkpoint)
    assert embed(tmp_path / "blend").tobytes() == expected.tobytes()


def test_a_blended_query_encoder_stays_one_and_keeps_its_record(
    tmp_path: Path, tiny_checkpoint: Path, query_encoder: Path, tiny_encoder: Encoder
) -> None:
    pair = open_pair(str(tiny_checkpoint), str(query_encoder), tmp_path)
    assert (pair.kind, pair.is_query_side) == ("encoder", True)

    write_blend(pair, 0.5, tmp_path / "blend")

    manifest = verify_manifest(tmp_path / "blend")
    assert manifest is not None
    assert manifest.passage_fingerprint == tiny_encoder.fingerprint
    assert manifest.facts["training"] == {"seed": 1}
    assert manifest.facts["blend"] == {"share": 0.5, "base_fingerprint": tiny_encoder.fingerprint}
    loaded = load_blend(tmp_path / "blend", tiny_encoder, EncoderOptions("cpu", 64, cache=tmp_path))
    passages = loaded.encode(TEXTS, "passage").embeddings
    assert passages.tobytes() == tiny_encoder.encode(TEXTS, "passage").embeddings.tobytes()
    weights = [load_file(each / "model.safetensors") for each in (tiny_checkpoint, query_encoder)]
    blended = load_file(tmp_path / "blend/model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(blended[name], (weights[0][name] + weights[1][name]) / 2)


def test_an_encoder_trained_on_both_sides_is_blended_on_both(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    tuned = make_checkpoint(tmp_path / "tuned", seed=2)
    pair = open_pair(str(tiny_checkpoint), str(tuned), tmp_path)

    write_blend(pair, 0.5, tmp_path / "blend")

    assert not pair.is_query_side
    assert load_encoder(str(tmp_path / "blend"), device="cpu").encodes_passages
    assert np.abs(embed(tmp_path / "blend", "passage") - embed(tuned, "passage")).max() > 1e-3


def test_pairs_that_do_not_belong_together_are_refused(
    tmp_path: Path, tiny_checkpoint: Path, tuned_checkpoint: Path, query_encoder: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=3)
    cls = make_checkpoint(tmp_path / "cls", pooling="cls")

    for base, tuned, reason in (
        (tuned_checkpoint, tuned_checkpoint, "has two sides: name the encoder without its adapter"),
        (other, query_encoder, "was trained for passages of the fingerprint"),
        (other, tuned_checkpoint, "was trained for passages of the fingerprint"),
        (tiny_checkpoint, cls, "has another pooling than the base"),
    ):
        with pytest.raises(DataError, match=reason):
            open_pair(str(base), str(tuned), tmp_path)


def test_another_architecture_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    wide = make_checkpoint(tmp_path / "wide", hidden_size=16)
    pair = open_pair(str(tiny_checkpoint), str(wide), tmp_path)

    with pytest.raises(CheckpointError, match="has another shape"):
        write_blend(pair, 0.5, tmp_path / "blend")


def test_a_checkpoint_of_several_files_is_blended_into_one(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    tuned = Path(shutil.copytree(tiny_checkpoint, tmp_path / "tuned"))
    (tuned / "manifest.json").unlink()
    weights = load_file(tuned / "model.safetensors")
    (tuned / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[:9], names[9:]), 1):
        content = {name: weights[name] for name in part}
        save_file(content, tuned / f"model-0000{number}-of-00002.safetensors", {"format": "pt"})
    places = {
        name: f"model-0000{1 if name in names[:9] else 2}-of-00002.safetensors" for name in names
    }
    index = {"metadata": {}, "weight_map": places}
    (tuned / "model.safetensors.index.json").write_text(json.dumps(index))

    write_blend(open_pair(str(tiny_checkpoint), str(tuned), tmp_path), 0.5, tmp_path / "blend")

    assert [path.name for path in (tmp_path / "blend").glob("model*")] == ["model.safetensors"]
    assert embed(tmp_path / "blend").tobytes() == embed(tiny_checkpoint).tobytes()


def test_adapters_of_other_bases_keep_the_base_that_they_name(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    folder = make_adapter(tmp_path / "adapter", tiny_encoder, base=str(tiny_checkpoint))

    write_blend(open_pair(str(tiny_checkpoint), str(folder), tmp_path), 1.0, tmp_path / "blend")

    assert json.loads((tmp_path / "blend/adapter.json").read_text())["base"] == str(tiny_checkpoint)


def with_dense(folder: Path, seed: int, **changes: object) -> Path:
    """An encoder whose pooled embeddings pass a Dense module."""
    make_checkpoint(folder, seed=seed, with_manifest=False)
    modules = json.loads((folder / "modules.json").read_text())
    modules[2] |= {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    config: dict[str, object] = {"in_features": 32, "out_features": 8, "bias": False}
    config |= {"activation_function": "torch.nn.modules.linear.Identity"} | changes
    (folder / "2_Dense/config.json").write_text(json.dumps(config))
    weights = torch.randn(8, 32, generator=torch.Generator().manual_seed(seed))
    save_file({"linear.weight": weights}, folder / "2_Dense/model.safetensors")
    return folder


def test_modules_after_the_pooling_are_blended_too(tmp_path: Path) -> None:
    base, tuned = (with_dense(tmp_path / str(seed), seed) for seed in (1, 2))
    ends = [
        load_file(each / "2_Dense/model.safetensors")["linear.weight"] for each in (base, tuned)
    ]

    write_blend(open_pair(str(base), str(tuned), tmp_path), 0.5, tmp_path / "blend")

    blended = load_file(tmp_path / "blend/2_Dense/model.safetensors")["linear.weight"]
    torch.testing.assert_close(blended, torch.lerp(*ends, 0.5))
    assert embed(tmp_path / "blend").shape == (2, 8)


def test_other_modules_after_the_pooling_are_refused(tmp_path: Path) -> None:
    base = with_dense(tmp_path / "base", 1)
    tuned = with_dense(
        tmp_path / "tuned", 1, activation_function="torch.nn.modules.activation.Tanh"
    )

    with pytest.raises(DataError, match="another list of modules after the pooling than the base"):
        open_pair(str(base), str(tuned), tmp_path)


def test_weights_that_files_name_differently_are_blended(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """A model saved with a head, for example, names its weights with the architecture's prefix."""
    tuned = make_checkpoint(tmp_path / "tuned", seed=1, with_manifest=False)
    weights = load_file(tuned / "model.safetensors")
    renamed = {f"bert.{name}": tensor for name, tensor in weights.items()}
    save_file(renamed, tuned / "model.safetensors", {"format": "pt"})

    write_blend(open_pair(str(tiny_checkpoint), str(tuned), tmp_path), 0.5, tmp_path / "blend")

    name = "encoder.layer.0.output.dense.weight"
    ends = (load_file(tiny_checkpoint / "model.safetensors")[name], weights[name])
    found = load_file(tmp_path / "blend/model.safetensors")[name]
    torch.testing.assert_close(found, torch.lerp(*ends, 0.5))
