from pathlib import Path

import huggingface_hub
import pytest

from service.retrieval.errors import CheckpointError
from service.retrieval.storage.hub import HubKind, resolve_path_or_hub_name, split_hub_name

COMMIT = "0123456789abcdef" * 2 + "01234567"
KIND = HubKind("the thing", "dataset", ("*.txt",), "a folder", CheckpointError)


def test_a_path_that_exists_is_returned_as_it_is(tmp_path: Path) -> None:
    assert resolve_path_or_hub_name(str(tmp_path), KIND) == tmp_path


def test_a_pinned_name_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return "folder"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    assert resolve_path_or_hub_name(f"owner/name@{COMMIT}", KIND) == Path("folder")
    assert asked == {
        "name": "owner/name",
        "revision": COMMIT,
        "repo_type": "dataset",
        "allow_patterns": ["*.txt"],
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "the thing nothing does not exist: name a folder"),
        ("owner/name", "the thing owner/name is not a folder, .* owner/name@<40 hexadecimal"),
        (f"owner/name@{COMMIT[:39]}", "a Hub name needs its revision pinned"),
        ("./name", "the thing ./name does not exist: name a folder"),
        ("../name", "the thing ../name does not exist: name a folder"),
        (f"../name@{COMMIT}", "does not exist: name a folder"),
    ],
)
def test_a_name_that_cannot_be_resolved_is_refused(name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        resolve_path_or_hub_name(name, KIND)


def test_a_name_is_split_from_its_commit() -> None:
    assert split_hub_name(f"owner/name@{COMMIT}") == ("owner/name", COMMIT)
    assert split_hub_name("owner/name") == ("owner/name", None)
