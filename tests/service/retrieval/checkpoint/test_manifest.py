import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.retrieval.checkpoint.manifest import fingerprint_of, verify_manifest, write_manifest
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import canonical_json
from tests.conftest import cut_short, flip_bit
from tests.support.layouts import Folder, dense

# Every file of a checkpoint as `make_checkpoint` writes it.
FILES = [
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def fingerprint(directory: Path) -> str:
    return fingerprint_of(directory, read_layout(directory))


def test_a_manifest_describes_the_checkpoint_and_each_of_its_files(tiny_checkpoint: Path) -> None:
    manifest = verify_manifest(tiny_checkpoint)

    assert manifest is not None
    assert manifest.name == "tiny-mean-0"
    assert sorted(manifest.files) == FILES
    content = json.loads((tiny_checkpoint / "manifest.json").read_text())
    assert content["format_version"] == 1
    assert content["embedding_dim"] == 32
    assert content["pooling"] == "mean"
    assert content["prompts"] == {"query": "query: ", "passage": "passage: "}
    assert content["max_tokens"] == 64


@pytest.mark.parametrize("damage", [flip_bit, cut_short, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(
    checkpoint_copy: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(checkpoint_copy / name)

    with pytest.raises(CheckpointError) as caught:
        verify_manifest(checkpoint_copy)

    assert str(caught.value).startswith(f"{checkpoint_copy / name} ")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_bit, cut_in_half])
def test_a_damaged_manifest_is_refused(
    checkpoint_copy: Path, damage: Callable[[Path], None]
) -> None:
    damage(checkpoint_copy / "manifest.json")

    with pytest.raises(CheckpointError, match=r"/manifest\.json (was altered|is not valid JSON)"):
        verify_manifest(checkpoint_copy)


def test_a_fact_that_was_edited_is_noticed(checkpoint_copy: Path) -> None:
    path = checkpoint_copy / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"passage_fingerprint": "0" * 64}))

    with pytest.raises(CheckpointError, match=r"manifest\.json was altered"):
        verify_manifest(checkpoint_copy)


def test_a_newer_format_is_refused_with_both_versions(checkpoint_copy: Path) -> None:
    write_manifest(checkpoint_copy, format_version=2)

    with pytest.raises(CheckpointError, match=r"format version 2, this program reads version 1"):
        verify_manifest(checkpoint_copy)


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"files": None}, "`files` is missing"),
        ({"files": []}, "`files` is not an object"),
        ({"files": {"config.json": {"sha256": "0"}}}, "`files.config.json.size_bytes` is missing"),
        ({"name": 5}, "`name` is not text"),
        ({"passage_fingerprint": ["f"]}, "`passage_fingerprint` is not text"),
    ],
)
def test_a_manifest_of_another_form_is_refused_with_file_and_field(
    checkpoint_copy: Path, changes: dict[str, object], violation: str
) -> None:
    """The digest is right, so only the form can be found wrong."""
    path = checkpoint_copy / "manifest.json"
    content = json.loads(path.read_text()) | changes
    del content["digest"]
    content = {key: value for key, value in content.items() if value is not None}
    content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
    path.write_text(json.dumps(content))

    with pytest.raises(CheckpointError) as caught:
        verify_manifest(checkpoint_copy)

    assert str(caught.value).startswith(f"{path}: {violation}: restore it from a copy")


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"name": "\ud800"}, "`name` holds half a surrogate pair"),
        ({"training": [{"by": "a\udfff"}]}, "`training[0].by` holds half a surrogate pair"),
        ({"\ud800": 1}, r"the name `\ud800` holds half a surrogate pair"),
        ({"digest": "\ud800"}, "`digest` holds half a surrogate pair"),
    ],
)
def test_text_that_is_not_unicode_is_refused_before_the_digest_is_computed(
    checkpoint_copy: Path, changes: dict[str, object], violation: str
) -> None:
    path = checkpoint_copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    with pytest.raises(CheckpointError) as caught:
        verify_manifest(checkpoint_copy)

    assert str(caught.value).startswith(f"{path}: {violation}: restore it from a copy")


def test_a_manifest_that_is_nested_too_deeply_is_refused(checkpoint_copy: Path) -> None:
    path = checkpoint_copy / "manifest.json"
    path.write_text('{"training": ' + "[" * 500 + "]" * 500 + "}")

    with pytest.raises(CheckpointError, match=r"`training\[0\]\[0\]` is nested deeper than 64"):
        verify_manifest(checkpoint_copy)


def test_a_checkpoint_of_another_tool_has_no_manifest(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "manifest.json").unlink()

    assert verify_manifest(checkpoint_copy) is None


def test_writing_twice_gives_the_same_bytes(checkpoint_copy: Path) -> None:
    first = (checkpoint_copy / "manifest.json").read_bytes()

    write_manifest(checkpoint_copy, name="tiny-mean-0")

    assert (checkpoint_copy / "manifest.json").read_bytes() == first


def test_the_fingerprint_of_verified_hashes_equals_the_computed_one(tiny_checkpoint: Path) -> None:
    layout = read_layout(tiny_checkpoint)
    manifest = verify_manifest(tiny_checkpoint)

    assert fingerprint_of(tiny_checkpoint, layout, manifest) == fingerprint(tiny_checkpoint)
    assert len(fingerprint(tiny_checkpoint)) == 64


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("1_Pooling/config.json", '"mean"', '"cls"'),
        ("config_sentence_transformers.json", '"query: "', '"q: "'),
        ("config.json", '"gelu"', '"gelu_new"'),
        ("tokenizer.json", '"truncation"', '"truncation" '),
        ("model.safetensors", None, None),
    ],
)
def test_the_fingerprint_changes_with_all_that_decides_an_embedding(
    checkpoint_copy: Path, tiny_checkpoint: Path, name: str, old: str | None, new: str | None
) -> None:
    path = checkpoint_copy / name
    if old is None or new is None:
        flip_bit(path)
    else:
        path.write_text(path.read_text().replace(old, new))

    assert path.read_bytes() != (tiny_checkpoint / name).read_bytes()
    assert fingerprint(checkpoint_copy) != fingerprint(tiny_checkpoint)


def test_the_fingerprint_does_not_depend_on_place_or_readme(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    moved = Path(shutil.copytree(tiny_checkpoint, tmp_path / "elsewhere"))
    (moved / "README.md").write_text("A model card.")

    assert fingerprint(moved) == fingerprint(tiny_checkpoint)


HEAD = (dense(16, "GELU"), ("LayerNorm", {"dimension": 16}), dense(16, "Tanh", 16))


@pytest.mark.parametrize(
    "changed",
    [
        Folder(head=(HEAD[0], HEAD[2], HEAD[1])),
        Folder(head=(dense(16, "ReLU"), *HEAD[1:])),
        Folder(head=(dense(16, "GELU", bias=False), *HEAD[1:])),
        Folder(head=(HEAD[0], ("Normalize", {}), *HEAD[1:])),
        Folder(head=HEAD[:2]),
        Folder(head=HEAD, pooling={"pooling_mode": "mean", "include_prompt": False}),
        Folder(head=HEAD, pooling={"pooling_mode": "max"}),
        Folder(head=HEAD, changes={"config_sentence_transformers.json": {"truncate_dim": 8}}),
    ],
)
def test_the_fingerprint_covers_every_module_and_the_truncation(
    tmp_path: Path, changed: Folder
) -> None:
    own = Folder(head=HEAD)(tmp_path / "own")
    other = changed(tmp_path / "other")

    assert fingerprint(other) != fingerprint(own)


@pytest.mark.parametrize("folder", ["2_Dense", "3_LayerNorm", "4_Dense"])
def test_the_fingerprint_covers_the_weights_of_every_module(tmp_path: Path, folder: str) -> None:
    own = Folder(head=HEAD)(tmp_path / "own")
    before = fingerprint(own)

    flip_bit(own / folder / "model.safetensors")

    assert fingerprint(own) != before


def test_a_last_normalize_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    with_one, without = (
        fingerprint(Folder(head=head)(tmp_path / name))
        for name, head in (("with", (*HEAD, ("Normalize", {}))), ("without", HEAD))
    )

    assert with_one == without
