"""Files of artifacts: hashed, synced to disk, published by one rename."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from service.retrieval.errors import ArtifactError


class FileRecord(TypedDict):
    """The record of one file in a manifest."""

    size_bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(content: Any) -> bytes:
    """Serialize content as JSON; equal content gives equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


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
                "restore it from a copy or build again"
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
        # Only the name is checked: in the Hub's cache each file is a link to another folder.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise error(f"{directory}/manifest.json names a file outside its folder: {name!r}")
        if not path.is_file():
            raise error(f"{path} is missing: restore it from a copy or build again")
        size_bytes = path.stat().st_size
        if size_bytes != record["size_bytes"]:
            raise error(
                f"{path} has {size_bytes} bytes, its manifest says {record['size_bytes']}: "
                "restore it from a copy or build again"
            )


def read_json(path: Path, error: type[ArtifactError]) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: of the class `error`, if the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise error(f"{path} is missing: restore it from a copy or build again") from None
    except (ValueError, RecursionError):
        raise error(f"{path} is not valid JSON: restore it from a copy or build again") from None


def read_json_object(path: Path, error: type[ArtifactError]) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ArtifactError: of the class `error`, if the file is missing or holds something else.
    """
    content = read_json(path, error)
    if not isinstance(content, dict):
        raise error(f"{path} is not a JSON object: restore it from a copy or build again")
    return content


def sync(path: Path) -> None:
    """Flush the content of a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def temporary_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a folder in `parent`, and remove it at the end unless it was published."""
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish_directory(directory: Path, target: Path) -> None:
    """Sync a complete folder and rename it to `target`."""
    for path in (*directory.rglob("*"), directory):
        sync(path)
    directory.chmod(0o755)
    directory.rename(target)
    sync(target.parent)
