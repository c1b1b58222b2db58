from pathlib import Path

import huggingface_hub.constants
import pytest

from service.retrieval.checkpoint.locator import locate_encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub's library, which is set to be offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/such/folder", "does not exist: name a Sentence Transformers folder"),
        ("bundledd", "does not exist: name a Sentence Transformers folder"),
        ("owner/name", "needs its revision pinned: owner/name@<40 hexadecimal digits"),
        ("owner/name@main", "needs its revision pinned: owner/name@<40 hexadecimal digits"),
        (f"owner/name@{REVISION[:39]}", "needs its revision pinned"),
        (f"owner/name@{REVISION.upper()}", "needs its revision pinned"),
    ],
)
def test_a_name_that_cannot_be_resolved_is_refused_with_the_fix(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        locate_encoder(name, tmp_path)

    assert name in str(caught.value)


def test_a_folder_of_other_files_is_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "model.zip").touch()

    with pytest.raises(CheckpointError, match="is no encoder: it has neither modules.json nor"):
        load_encoder(str(tmp_path), device="cpu")


def test_a_damaged_json_file_of_an_encoder_is_to_be_restored_not_built(
    checkpoint_copy: Path,
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    (checkpoint_copy / "config.json").write_text("{")

    with pytest.raises(CheckpointError, match="is not valid JSON: restore it from a copy$"):
        load_encoder(str(checkpoint_copy), device="cpu")


def test_a_hub_name_with_its_revision_loads_from_the_hubs_cache(
    hub_cache: Path, tiny_checkpoint: Path
) -> None:
    """The Hub's library stores blobs, and a snapshot folder of links to them."""
    repository = hub_cache / "models--owner--name"
    (repository / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(tiny_checkpoint.rglob("*.*"))):
        (repository / "blobs" / str(number)).write_bytes(path.read_bytes())
        link = repository / "snapshots" / REVISION / path.relative_to(tiny_checkpoint)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(repository / "blobs" / str(number))

    encoder = load_encoder(f"owner/name@{REVISION}", device="cpu")

    assert encoder.name == "tiny-mean-0"
    assert encoder.fingerprint == load_encoder(str(tiny_checkpoint), device="cpu").fingerprint


@pytest.mark.parametrize("name", ["owner/name", "owner/na--me", "owner/name.git"])
def test_a_hub_name_that_cannot_be_fetched_is_refused_by_name(hub_cache: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name}@{REVISION} could not be fetched"):
        load_encoder(f"{name}@{REVISION}", device="cpu")
