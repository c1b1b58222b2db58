import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact, checksums


def test_a_file_that_is_a_link_counts_as_its_content(tmp_path: Path) -> None:
    """The Hub's cache holds links; checkpoints with a manifest were refused there once."""
    (tmp_path / "blob").write_bytes(b"abc")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "a").symlink_to("../blob")

    records = checksums.record_files(tmp_path / "snapshot", ["a"])

    checksums.verify_files(tmp_path / "snapshot", records, CheckpointError)


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert artifact.canonical_json({"b": "é", "a": 1}) == b'{\n "a": 1,\n "b": "\xc3\xa9"\n}\n'
    assert artifact.canonical_json({"a": 1, "b": "é"}) == artifact.canonical_json(
        {"b": "é", "a": 1}
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\xfd", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1]", "is not a JSON object"),
    ],
    ids=["missing", "cut", "binary", "deep", "list"],
)
def test_an_invalid_json_file_is_refused_by_name(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CheckpointError, match=f"x.json {reason}"):
        artifact.read_json_object(path, CheckpointError)


def test_a_replaced_file_has_the_new_content_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "CURRENT"
    path.write_bytes(b"old")

    artifact.replace_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "CURRENT"
    path.mkdir()  # a file cannot take a folder's name

    with pytest.raises(OSError, match="CURRENT"):
        artifact.replace_file(path, b"new")

    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_folder_is_removed_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with artifact.temporary_directory(tmp_path, ".writing-") as directory:
            (directory / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_a_published_folder_has_its_name_and_is_readable_by_all(tmp_path: Path) -> None:
    with artifact.temporary_directory(tmp_path, ".writing-") as directory:
        (directory / "sub").mkdir()
        (directory / "sub" / "a").write_bytes(b"abc")
        artifact.publish_directory(directory, tmp_path / "done")

    assert list(tmp_path.iterdir()) == [tmp_path / "done"]
    assert (tmp_path / "done" / "sub" / "a").read_bytes() == b"abc"
    assert (tmp_path / "done").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("inodes", "free_inodes", "reason"),
    [
        (1000, 0, "the disk has no inodes left for new files"),
        (1000, 1, "the disk is full (0 MiB free)"),
        (0, 0, "the disk is full (0 MiB free)"),  # a file system that does not count them
    ],
)
def test_a_full_disk_says_what_it_lacks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inodes: int,
    free_inodes: int,
    reason: str,
) -> None:
    room = SimpleNamespace(f_files=inodes, f_favail=free_inodes, f_bavail=0, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: room)

    for error in (OSError(errno.ENOSPC, "No space left on device"), Exception("disk is full")):
        assert artifact.write_failure(tmp_path, error) == reason
    denied = OSError(errno.EACCES, "Permission denied")
    assert artifact.write_failure(tmp_path, denied) == "Permission denied"
