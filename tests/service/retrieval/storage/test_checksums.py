import hashlib
from pathlib import Path

import pytest

from service.retrieval.errors import ArtifactError, CheckpointError, GenerationError
from service.retrieval.storage import checksums
from tests.conftest import cut_short, flip_bit


def test_a_record_holds_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    records = checksums.record_files(tmp_path, ["a"])

    assert records == {
        "a": {
            "size_bytes": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }
    }


def test_undamaged_files_pass(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    records = checksums.record_files(tmp_path, ["a"])

    checksums.verify_files(tmp_path, records, GenerationError)


@pytest.mark.parametrize("error", [CheckpointError, GenerationError])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip_bit, "was altered"), (cut_short, "has 2 bytes"), (Path.unlink, "is missing")],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, damage: object, reason: str, error: type[ArtifactError]
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"def")
    records = checksums.record_files(tmp_path, ["a", "b"])
    damage(tmp_path / "b")  # type: ignore[operator]

    with pytest.raises(error, match=reason) as caught:
        checksums.verify_files(tmp_path, records, error)

    assert str(caught.value).startswith(f"{tmp_path / 'b'} ")


@pytest.mark.parametrize("name", ["../outside", "sub/../../outside", "/etc/hostname"])
def test_a_record_of_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"abc")
    record: checksums.FileRecord = {"size_bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}

    with pytest.raises(GenerationError, match="names a file outside its folder"):
        checksums.verify_files(folder, {name: record}, GenerationError)
