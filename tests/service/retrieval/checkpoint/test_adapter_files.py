"""The folder of an adapter: what is written, what `peft` reads, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from service.retrieval.checkpoint.adapter import PEFT_CONFIG, PEFT_WEIGHTS
from service.retrieval.checkpoint.adapter_files import read_adapter, write_adapter
from service.retrieval.checkpoint.locator import BUNDLED_ADAPTER
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.pooling import mean_pool
from service.retrieval.errors import CheckpointError

TEXTS = ["Where is Nairobi?", "Je, mji mkuu wa Kenya ni upi?"]
QUERY = "encoder.layer.0.attention.self.query"
SHAPES = {"attention.self.query": (32, 32), "intermediate.dense": (64, 32)}
RANK, SCALE = 4, 0.0625


def random_pairs() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).half()

    return {
        f"encoder.layer.{layer}.{name}": (matrix(RANK, inputs), matrix(outputs, RANK))
        for layer in range(2)
        for name, (outputs, inputs) in SHAPES.items()
    }


@pytest.fixture
def written(tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder) -> Path:
    """An adapter as training writes one."""
    folder = tmp_path / "written"
    folder.mkdir()
    write_adapter(
        folder,
        random_pairs(),
        SCALE,
        base=str(tiny_checkpoint),
        base_fingerprint=tiny_encoder.fingerprint,
        passage_fingerprint=tiny_encoder.fingerprint,
        training={"seed": 3},
    )
    return folder


def test_a_written_adapter_is_read_as_it_was(written: Path, tiny_encoder: Encoder) -> None:
    adapter = read_adapter(written)

    assert adapter.scale == SCALE
    assert adapter.description.facts == {"training": {"seed": 3}}
    assert adapter.description.passage_fingerprint == tiny_encoder.fingerprint
    expected = random_pairs()
    assert adapter.pairs.keys() == expected.keys()
    for name, pair in adapter.pairs.items():
        assert all(map(torch.equal, pair, expected[name]))


def test_the_files_are_those_of_peft(written: Path, tiny_checkpoint: Path) -> None:
    config = json.loads((written / "adapter_config.json").read_text())
    names = set(load_file(written / "adapter_model.safetensors"))

    assert {path.name for path in written.iterdir()} == {
        *("adapter.json", "adapter_config.json", "adapter_model.safetensors")
    }
    assert (config["r"], config["lora_alpha"]) == (4, 0.25)
    assert (config["peft_type"], config["task_type"]) == ("LORA", "FEATURE_EXTRACTION")
    assert config["base_model_name_or_path"] == str(tiny_checkpoint)
    assert config["target_modules"] == sorted(random_pairs())
    assert names == {
        f"base_model.model.{module}.lora_{letter}.weight"
        for module in random_pairs()
        for letter in "AB"
    }


def test_a_base_of_the_hub_is_named_with_its_revision(tmp_path: Path) -> None:
    write_adapter(
        tmp_path,
        random_pairs(),
        0.5,
        base="owner/name@" + "0" * 40,
        base_fingerprint="f" * 64,
        passage_fingerprint="f" * 64,
    )

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", "0" * 40)
    assert (config["lora_alpha"], read_adapter(tmp_path).scale) == (2, 0.5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
def test_the_peft_library_computes_the_same_embeddings(
    written: Path, tiny_checkpoint: Path
) -> None:
    encoder = load_encoder(str(written), device="cpu")
    base = AutoModel.from_pretrained(tiny_checkpoint)

    model = PeftModel.from_pretrained(base, str(written)).eval()

    for text in TEXTS:
        ids = torch.tensor([encoder.tokenize([text], "query")[0].token_ids])
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state
        theirs = torch.nn.functional.normalize(mean_pool(hidden, torch.ones_like(ids)))
        ours = encoder.encode([text], "query").embeddings
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_both_layouts_make_the_same_queries(
    written: Path, tuned_checkpoint: Path, tmp_path: Path
) -> None:
    old = read_adapter(tuned_checkpoint)
    folder = tmp_path / "again"
    folder.mkdir()
    description = old.description
    write_adapter(
        folder,
        old.pairs,
        old.scale,
        base=description.base,
        base_fingerprint=description.base_fingerprint,
        passage_fingerprint=description.passage_fingerprint,
    )

    encoders = [load_encoder(str(each), device="cpu") for each in (tuned_checkpoint, folder)]

    old_queries, new_queries = (each.encode(TEXTS, "query").embeddings for each in encoders)
    assert new_queries.tobytes() == old_queries.tobytes()
    assert encoders[0].passage_fingerprint == encoders[1].passage_fingerprint


def test_an_adapter_beside_the_weights_is_applied_once(
    checkpoint_copy: Path, written: Path, tiny_encoder: Encoder
) -> None:
    """With `peft` installed, transformers would apply it a first time."""
    alone = load_encoder(str(written), device="cpu")
    for path in written.iterdir():
        shutil.copy(path, checkpoint_copy)

    beside = load_encoder(str(checkpoint_copy), device="cpu")

    assert beside.fingerprint == alone.fingerprint
    assert beside.passage_fingerprint == tiny_encoder.fingerprint
    for role in ("query", "passage"):
        embeddings = [each.encode(TEXTS, role).embeddings for each in (beside, alone)]  # type: ignore[arg-type]
        assert embeddings[0].tobytes() == embeddings[1].tobytes()


def test_the_bundled_adapter_is_a_sum_of_two_and_records_their_trainings() -> None:
    adapter = read_adapter(BUNDLED_ADAPTER)

    assert adapter.scale == 1.0
    assert len(adapter.pairs) == 12 * 6
    assert {pair[0].shape[0] for pair in adapter.pairs.values()} == {44 + 22}
    assert adapter.weights_sha256 == (
        "481c41659b94d0f5fd0aaae4def6a6b9d8a52c6c8c822f20b559dc3645c60bc6"
    )
    parts = adapter.description.facts["training"]["sum"]
    assert [(part["share"], part["seed"], part["steps"]) for part in parts] == [
        (0.4, 3, 800),
        (0.3, 3, 200),
    ]
    assert sum(path.stat().st_size for path in BUNDLED_ADAPTER.iterdir()) < 16e6


def configured(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def renamed(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for letter in "AB":
        name = f"base_model.model.{QUERY}.lora_{letter}.weight"
        tensors[f"{QUERY}.lora_{letter.lower()}"] = tensors.pop(name)
    save_file(tensors, path)
    described = folder / "adapter.json"
    content = json.loads(described.read_text())
    del content["weights_sha256"]
    described.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": ["query", "intermediate.dense"]},
        {"target_modules": None},
        {"init_lora_weights": "gaussian"},
        {"target_parameters": None, "use_bdlora": None, "lora_bias": False},
    ],
)
def test_configurations_as_peft_writes_them_are_read(
    written: Path, change: dict[str, object]
) -> None:
    configured(**change)(written)

    assert read_adapter(written).pairs.keys() == random_pairs().keys()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "config.json is missing"),
        (configured(r=0), "config.json: `r` must be greater than or equal to 1"),
        (configured(r=5), r"has the shape \[4, 32\], not \[rank, inputs\] with rank 5"),
        (configured(lora_alpha="8"), "config.json: `lora_alpha` is not a number"),
        (configured(lora_alpha=float("nan")), "config.json: `lora_alpha` is not a finite number"),
        (configured(peft_type="IA3"), "config.json: `peft_type` must be 'LORA'"),
        (configured(use_rslora=True), "config.json: `use_rslora` must be False"),
        (configured(use_dora=True), "config.json: `use_dora` must be False"),
        (configured(r=10**400), "config.json: `r` must be less than or equal to 65536"),
        (configured(lora_alpha=10**400), "config.json: `lora_alpha` is not a number"),
        (configured(lora_bias=True), "config.json: `lora_bias` must be False"),
        (configured(use_qalora=True), "config.json: `use_qalora` must be False"),
        *(
            (configured(init_lora_weights=kind), "config.json: `init_lora_weights` must be True")
            for kind in ("pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "mica")
        ),
        (configured(layer_replication=[[0, 1]]), "config.json: `layer_replication` must be null"),
        (configured(target_modules="query"), "config.json: `target_modules` is not a list"),
        (configured(target_modules=[]), "`target_modules` does not name 'encoder.layer.0.att"),
        (configured(target_modules=["nothing"]), "`target_modules` does not name 'encoder.layer."),
        (
            configured(target_modules=["query", "intermediate.dense", "a\nb"]),
            r"config.json: `target_modules` names 'a\\nb', which has no tensors",
        ),
        (configured(bias="all"), "config.json: `bias` must be 'none'"),
        (configured(alpha_pattern={"query": 3.0}), "config.json: `alpha_pattern` must be empty"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot be read"),
        (renamed, "lora_.' is not named <module>.lora_A.weight or"),
    ],
)
def test_a_broken_adapter_is_refused_with_file_and_field(
    written: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(written)

    with pytest.raises(CheckpointError, match=reason):
        read_adapter(written)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((PEFT_WEIGHTS,), PEFT_CONFIG),
        ((PEFT_CONFIG,), PEFT_WEIGHTS),
        (("adapter.safetensors",), "adapter.json"),
    ],
)
@pytest.mark.parametrize("is_beside_the_weights", [True, False])
def test_files_of_an_adapter_without_the_others_are_refused(
    written: Path,
    checkpoint_copy: Path,
    tiny_checkpoint: Path,
    names: tuple[str, ...],
    missing: str,
    is_beside_the_weights: bool,
) -> None:
    """The plain base would be loaded silently."""
    folder = checkpoint_copy if is_beside_the_weights else written.parent / "peft"
    folder.mkdir(exist_ok=True)
    for name in names:
        if (written / name).is_file():
            shutil.copy(written / name, folder)
        else:
            (folder / name).write_bytes(b"")
    if PEFT_CONFIG in names:
        configured(base_model_name_or_path=str(tiny_checkpoint))(folder)

    with pytest.raises(CheckpointError, match=rf"/{missing} is missing beside {names[0]}"):
        load_encoder(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (("adapter_config.json",), "/0_Transformer holds an adapter, which is read"),
        (("adapter.json", "adapter_config.json"), "/0_Transformer holds an adapter, which is read"),
    ],
)
def test_an_adapter_in_the_folder_of_a_module_is_refused(
    written: Path, checkpoint_copy: Path, files: tuple[str, ...], reason: str
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    folder = checkpoint_copy / "0_Transformer"
    folder.mkdir()
    for path in checkpoint_copy.glob("*.*"):
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(folder / path.name)
    modules = json.loads((checkpoint_copy / "modules.json").read_text())
    modules[0]["path"] = folder.name
    (checkpoint_copy / "modules.json").write_text(json.dumps(modules))
    assert load_encoder(str(checkpoint_copy), device="cpu").embedding_dim == 32
    for name in files:
        shutil.copy(written / name, folder)

    with pytest.raises(CheckpointError, match=reason):
        load_encoder(str(checkpoint_copy), device="cpu")
