"""Checksums of files: the size and sha256 that a manifest records, and their verification."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import TypedDict

from service.retrieval.errors import ArtifactError, quoted
from service.retrieval.storage.artifact import is_inside


class FileRecord(TypedDict):
    """The record of one file in a manifest."""

    size_bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_files(directory: Path, names: list[str]) -> dict[str, FileRecord]:
    """Return the size and hash of each file, as read back from the disk."""
    return {
        name: {
            "size_bytes": (directory / name).stat().st_size,
            "sha256": sha256_of(directory / name),
        }
        for name in names
    }


def verify_files(
    directory: Path, records: Mapping[str, FileRecord], error: type[ArtifactError]
) -> None:
    """Compare each file with its record.

    Raises:
        ArtifactError: of the class `error`, naming the first file that is missing, of another
            size or of another content.
    """
    verify_sizes(directory, records, error)
    for name, record in records.items():
        if sha256_of(directory / name) != record["sha256"]:
            raise error(
                f"{directory / name} was altered (its sha256 is not the manifest's): "
                f"{error.how_to_restore}"
            )


def verify_sizes(
    directory: Path, records: Mapping[str, FileRecord], error: type[ArtifactError]
) -> None:
    """Compare each file's size with its record; no content is read.

    Raises:
        ArtifactError: of the class `error`, naming the first file that is missing or of another
            size.
    """
    for name, record in records.items():
        path = directory / name
        if not is_inside(name):
            raise error(
                f"{directory}/manifest.json names a file outside its folder: {quoted(name)}: "
                f"{error.how_to_restore}"
            )
        if not path.is_file():
            raise error(f"{path} is missing: {error.how_to_restore}")
        size_bytes = path.stat().st_size
        if size_bytes != record["size_bytes"]:
            raise error(
                f"{path} has {size_bytes} bytes, its manifest says {quoted(record['size_bytes'])}: "
                f"{error.how_to_restore}"
            )
