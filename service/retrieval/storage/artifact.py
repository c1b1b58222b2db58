"""Files of artifacts: JSON documents, synced to disk, published by one rename."""

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.retrieval import interruption
from service.retrieval.errors import ArtifactError
from service.retrieval.storage.schema import content_violation

# The letters of a path, and the bytes of one part of it, on the usual file systems.
MAX_PATH, MAX_PART = 1024, 255
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def canonical_json(content: Any) -> bytes:
    """Serialize content as JSON; equal content gives equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, error: type[ArtifactError]) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: of the class `error`, if the file is missing, unreadable or not JSON, or
            holds text that is not Unicode.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise error(f"{path} is missing: {error.how_to_restore}") from None
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}): check the file") from None
    except (ValueError, RecursionError):
        refuse_pointer(path, error)
        raise error(f"{path} is not valid JSON: {error.how_to_restore}") from None
    if violation := content_violation(content):
        raise error(f"{path}: {violation}: {error.how_to_restore}")
    return content


def refuse_pointer(path: Path, error: type[ArtifactError]) -> None:
    """Refuse a git-lfs pointer, which stands for a file that was not fetched.

    Raises:
        ArtifactError: of the class `error`, naming the file and the command that fetches it.
    """
    with path.open("rb") as file:
        is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    if is_pointer:
        raise error(
            f"{path} is a git-lfs pointer, not the file: run `git lfs pull` in {path.parent}"
        ) from None


def read_json_object(path: Path, error: type[ArtifactError]) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ArtifactError: of the class `error`, if the file is missing or holds something else.
    """
    content = read_json(path, error)
    if not isinstance(content, dict):
        raise error(f"{path} is not a JSON object: {error.how_to_restore}")
    return content


def is_inside(name: str) -> bool:
    """Return whether a path that a file names is usable and stays inside of the file's folder.

    Links are not followed: in the Hub's cache each file is a link to another folder.
    """
    path = Path(name)
    return is_usable_path(name) and not path.is_absolute() and ".." not in path.parts


def is_usable_path(name: str) -> bool:
    """Return whether a path that a file names is printable and no part is too long for a disk."""
    parts = (len(part.encode()) for part in Path(name).parts)
    return name.isprintable() and len(name) <= MAX_PATH and max(parts, default=0) <= MAX_PART


def write_failure(folder: Path, error: Exception) -> str:
    """Return why a folder cannot be written: the disk is full, has no inodes left, or another."""
    is_full = getattr(error, "errno", None) == errno.ENOSPC or "full" in str(error)
    reason = getattr(error, "strerror", None) or str(error)
    if not is_full or not folder.is_dir():
        return reason
    room = os.statvfs(folder)
    if room.f_files and not room.f_favail:
        return "the disk has no inodes left for new files"
    return f"the disk is full ({room.f_bavail * room.f_frsize // 2**20} MiB free)"


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
    with interruption.removing(directory):
        yield directory


@contextmanager
def temporary_links(paths: Iterable[Path]) -> Iterator[Path]:
    """Create a folder of links to some files and to no others, and remove it at the end."""
    with temporary_directory(Path(tempfile.gettempdir()), "clear-files-") as directory:
        for path in paths:
            (directory / path.name).symlink_to(path.resolve())
        yield directory


def publish_directory(directory: Path, target: Path) -> None:
    """Sync a complete folder and rename it to `target`."""
    for path in (*directory.rglob("*"), directory):
        sync(path)
    directory.chmod(0o755)
    directory.rename(target)
    sync(target.parent)
