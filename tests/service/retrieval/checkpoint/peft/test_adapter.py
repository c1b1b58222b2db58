"""Adapters that `peft` wrote by itself: merged as it and sentence-transformers merge them."""

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, T5Config, T5EncoderModel, T5Model

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.peft.adapter import merge_peft, read_peft_adapter
from service.retrieval.checkpoint.peft.config import merge_command
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.conftest import make_checkpoint, run_script

TEXTS = ["Where is Nairobi?", "", "a very long text " * 40]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def write_peft(folder: Path, base: Path, **options: Any) -> Path:
    """Write a random adapter of a base, by `peft` itself."""
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "intermediate.dense"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        lora = LoraConfig(**{**config, "init_lora_weights": False, **options})
        model = get_peft_model(AutoModel.from_pretrained(base), lora)
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def written(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A folder of an adapter alone."""
    return write_peft(tmp_path / "adapter", tiny_checkpoint)


def check_equal(encoder: Encoder, model: SentenceTransformer) -> None:
    """Compare both sides with sentence-transformers."""
    for role, encode in (("query", model.encode_query), ("passage", model.encode_document)):
        found = encoder.encode(TEXTS, role).embeddings  # type: ignore[arg-type]
        np.testing.assert_allclose(found, encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"intermediate.dense": 2}},
        {"rank_pattern": {"layer.0.attention.self.query": 2}, "alpha_pattern": {"query": 3}},
        {"rank_pattern": {"^encoder.layer.1.*query": 6}},
        {"modules_to_save": ["output.LayerNorm"]},
        {"modules_to_save": ["word_embeddings"]},
        {"modules_to_save": ["pooler"]},
        {"target_modules": r".*\.(key|value)"},
        {"target_modules": "all-linear"},
    ],
    ids=str,
)
def test_an_adapter_alone_changes_both_sides_as_in_peft(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder, options: dict[str, Any]
) -> None:
    folder = write_peft(tmp_path / "adapter", tiny_checkpoint, **options)

    encoder = load_encoder(str(folder), device="cpu")

    theirs = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    theirs[0].model = PeftModel.from_pretrained(theirs[0].model, folder).merge_and_unload()
    check_equal(encoder, theirs)
    base = tiny_encoder.encode(TEXTS, "passage").embeddings
    assert np.abs(encoder.encode(TEXTS, "passage").embeddings - base).max() > 0.01
    assert not encoder.has_two_sides
    assert encoder.fingerprint == encoder.passage_fingerprint != tiny_encoder.fingerprint


def test_an_adapter_is_loaded_as_sentence_transformers_loads_it(
    written: Path, tiny_checkpoint: Path
) -> None:
    theirs = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    theirs.load_adapter(str(written))

    check_equal(load_encoder(str(written), device="cpu"), theirs)


@pytest.mark.parametrize("has_weights", [True, False])
def test_an_adapter_beside_modules_changes_the_weights_there_or_those_of_its_base(
    written: Path, checkpoint_copy: Path, has_weights: bool
) -> None:
    """sentence-transformers saves an encoder with an adapter without the base's weights."""
    (checkpoint_copy / "manifest.json").unlink()
    if not has_weights:
        (checkpoint_copy / "model.safetensors").unlink()
        (checkpoint_copy / "config.json").unlink()
    for name in (CONFIG, WEIGHTS):
        shutil.copy(written / name, checkpoint_copy)

    encoder = load_encoder(str(checkpoint_copy), device="cpu")

    check_equal(encoder, SentenceTransformer(str(checkpoint_copy), device="cpu"))


def test_an_adapter_of_a_model_with_a_head_is_found_below_its_prefix(
    written: Path, tiny_checkpoint: Path
) -> None:
    expected = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings
    tensors = load_file(written / WEIGHTS)
    prefixed = {
        name.replace("base_model.model.", "base_model.model.bert."): tensor
        for name, tensor in tensors.items()
    }
    save_file(prefixed, written / WEIGHTS)

    found = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings

    assert found.tobytes() == expected.tobytes()


def test_the_fingerprint_is_of_the_base_and_of_both_files(written: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return open_checkpoint(str(written), tmp_path).passage_fingerprint

    first = fingerprint()
    edit(written / CONFIG, lora_alpha=9)
    second = fingerprint()
    tensors = load_file(written / WEIGHTS)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, written / WEIGHTS)

    assert len({first, second, fingerprint()}) == 3


def configured(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / CONFIG, **changes)


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return damage


KEY = "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"
DAMAGED = ": the file is damaged: restore it from a copy, or train the adapter again"
MERGES = r": merge it into its base by `python -c .*merge_and_unload\(\); m\.save\("


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (configured(peft_type="IA3"), f"`peft_type` must be 'LORA'{MERGES}"),
        (configured(use_dora=True), f"`use_dora` must be False{MERGES}"),
        (configured(use_newest_kind=True), f"`use_newest_kind` is set{MERGES}"),
        (configured(bias="all"), f"`bias` must be 'none'{MERGES}"),
        (configured(init_lora_weights="pissa"), f"`init_lora_weights` must be True.*{MERGES}"),
        (
            configured(trainable_token_indices=[1]),
            f"`trainable_token_indices` must be null{MERGES}",
        ),
        (configured(layers_to_transform=[0]), f"`layers_to_transform` must be null{MERGES}"),
        (configured(r=0), "`r` must be greater than or equal to 1"),
        (configured(r=3), r"has the shape \[\d+, \d+\], not 3 rows, the rank in adapter_config"),
        (configured(lora_alpha="8"), "`lora_alpha` is not a number"),
        (configured(alpha_pattern={"(a*)*b": 2}), r"the pattern '\(a\*\)\*b' is not a name with"),
        (configured(target_modules=[3]), "`target_modules` is neither a list of names nor"),
        (configured(target_modules=["key"]), "`target_modules` does not name"),
        (
            configured(base_model_name_or_path=...),
            "`base_model_name_or_path` is not the name of",
        ),
        (
            configured(base_model_name_or_path=None),
            "`base_model_name_or_path` is not the name of",
        ),
        (
            configured(base_model_name_or_path="no/such/folder"),
            "`base_model_name_or_path`: the encoder no/such/folder does not exist",
        ),
        (
            configured(base_model_name_or_path="intfloat/multilingual-e5-base"),
            "`base_model_name_or_path`: .* needs its revision pinned: set `revision` in "
            "adapter_config.json to the commit, or `base_model_name_or_path` to a local folder",
        ),
        (
            configured(base_model_name_or_path="../elsewhere"),
            "`base_model_name_or_path`: the encoder ../elsewhere does not exist: name it by its "
            "Hub name, with the commit as `revision`, or set `base_model_name_or_path` to a local",
        ),
        (
            with_tensors(lambda tensors: tensors.pop(KEY)),
            f"has no matrix lora_A{DAMAGED}",
        ),
        (
            with_tensors(lambda tensors: tensors.pop(KEY.replace("_A", "_B"))),
            f"has no matrix lora_B{DAMAGED}",
        ),
        (
            with_tensors(lambda tensors: tensors[KEY].fill_(torch.nan)),
            f"{re.escape(repr(KEY))} has a value that is not a finite number{DAMAGED}",
        ),
        (
            with_tensors(lambda tensors: tensors[KEY.replace("_A", "_B")].fill_(torch.inf)),
            f"has a value that is not a finite number{DAMAGED}",
        ),
        (
            with_tensors(lambda tensors: tensors.update({"other": torch.zeros(2)})),
            "'other' is not named base_model.model.<module>",
        ),
        (
            with_tensors(lambda tensors: tensors.update({f"{KEY}.bias": torch.zeros(2)})),
            f"is neither A or B of a module nor one of `modules_to_save`{MERGES}",
        ),
        (
            lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
            f"{WEIGHTS} is missing beside {CONFIG}; pickled adapters are never read",
        ),
        (
            lambda folder: (folder / WEIGHTS).write_text(
                "version https://git-lfs.github.com/spec/v1"
            ),
            f"{WEIGHTS} is a git-lfs pointer, not the file: run `git lfs pull`",
        ),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x"), f"{WEIGHTS} cannot be read"),
    ],
)
def test_other_adapters_are_refused_by_file_field_and_command(
    written: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(written)

    with pytest.raises(CheckpointError, match=reason) as caught:
        load_encoder(str(written), device="cpu")

    assert re.match(rf"{written}/adapter_(config\.json|model\.safetensors)", str(caught.value))


def test_a_base_is_found_by_a_path_from_the_adapters_folder(
    written: Path, tiny_checkpoint: Path
) -> None:
    named = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings
    (written.parent / "the-base").symlink_to(tiny_checkpoint)
    edit(written / CONFIG, base_model_name_or_path="../the-base", revision="0" * 40)

    found = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings

    np.testing.assert_array_equal(found, named)


def test_an_adapter_of_a_base_without_a_name_has_the_name_of_its_folder(
    written: Path, checkpoint_copy: Path
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    edit(written / CONFIG, base_model_name_or_path=str(checkpoint_copy))

    assert load_encoder(str(written), device="cpu").name == str(written)


def test_an_adapter_of_other_sizes_is_refused_by_tensor(written: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", hidden_size=16)
    edit(written / CONFIG, base_model_name_or_path=str(other))

    with pytest.raises(CheckpointError, match=r"B times A of '.*' has the shape \[\d+, 32\]"):
        load_encoder(str(written), device="cpu")


@pytest.mark.parametrize("head", ["classifier", "score", "classifier.dense"])
def test_the_head_of_a_classifier_is_left_out_in_one_line(
    written: Path, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings
    edit(written / CONFIG, task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    with_tensors(
        lambda tensors: tensors.update({f"base_model.model.{head}.weight": torch.ones(2, 32)})
    )(written)

    found = load_encoder(str(written), device="cpu").encode(TEXTS, "query").embeddings

    np.testing.assert_array_equal(found, plain)
    part = head.partition(".")[0]
    assert [record.message for record in caplog.records] == [
        f"{written / WEIGHTS}: an encoder does not use {part}: left out"
    ]


def test_changes_of_a_decoder_are_left_out_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(**sizes, vocab_size=20)
    base = T5Model(config)
    encoder = T5EncoderModel(config)
    encoder.load_state_dict(base.state_dict(), strict=False)
    lora = LoraConfig(r=2, target_modules=["q", "wi"], init_lora_weights=False)
    model = get_peft_model(base, lora)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(tmp_path, save_embedding_layers=False)

    merge_peft(encoder, read_peft_adapter(tmp_path))

    merged = model.merge_and_unload().get_encoder().state_dict()
    for name, parameter in encoder.encoder.state_dict().items():
        torch.testing.assert_close(parameter, merged[name])
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / WEIGHTS}: an encoder does not use decoder: left out"
    ]


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "$HOME", "a\\b", "`id`"])
def test_the_command_reads_any_name_as_it_is(name: str) -> None:
    command = merge_command(Path(name), {"base_model_name_or_path": name})

    python, option, code = shlex.split(command)
    names = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert (python, option) == ("python", "-c")
    assert [each for each in names if isinstance(each, str)].count(name) == 3
    assert f"{name}-merged" in names


@pytest.mark.slow
def test_the_command_that_is_named_merges_with_modules_and_without(
    written: Path, checkpoint_copy: Path
) -> None:
    with_modules = Path(shutil.copytree(written, written.with_name("with-modules")))
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"):
        (with_modules / name).parent.mkdir(exist_ok=True)
        shutil.copy(checkpoint_copy / name, with_modules / name)
    for path in checkpoint_copy.glob("*token*"):
        shutil.copy(path, with_modules)
    folders = (written, with_modules)
    commands = [merge_command(each, json.loads((each / CONFIG).read_text())) for each in folders]

    done = run_script("\n".join(shlex.split(command)[2] for command in commands))

    assert done.returncode == 0, done.stderr
    for folder in folders:
        ours, merged = (
            load_encoder(str(each), device="cpu").encode(TEXTS, "passage").embeddings
            for each in (folder, folder.with_name(f"{folder.name}-merged"))
        )
        np.testing.assert_allclose(merged, ours, atol=1e-5)
