"""Which generations an index has and had live: publish, list, roll back, remove; one writer.

INDEX/CURRENT   the name of the live generation
INDEX/HISTORY   the names that were live before it and its own, oldest first

CURRENT is replaced first: where a writer dies between the two, HISTORY is read up to CURRENT.
"""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    CURRENT,
    NAME,
    current_name,
    generations_directory,
    verify_generation,
)
from service.retrieval.generation.manifest import (
    MANIFEST,
    GenerationManifest,
    generation_name,
    read_manifest,
)
from service.retrieval.storage import artifact

HISTORY = "HISTORY"
LOCK = ".lock"
BUILDING, REMOVING = ".building-", ".removing-"
UNFINISHED = "unfinished"  # what interrupted builds have encoded so far

# Never live, or left by a rollback: unlisted.
Place = Literal["live", "former", "unlisted"]


@dataclass(frozen=True)
class GenerationInfo:
    """A generation on the disk; `damage` says what is wrong, empty where nothing is."""

    name: str
    place: Place
    built: datetime
    size_bytes: int
    manifest: GenerationManifest | None  # None where it cannot be read
    damage: str = ""


@dataclass(frozen=True)
class RemovedGenerations:
    """Generations that were removed, and the bytes that this freed."""

    names: list[str]
    num_bytes: int


@contextmanager
def exclusive_writer(index: Path) -> Iterator[Path]:
    """Be the index's only writer; what a killed writer left is removed.

    Yields:
        The folder of the generations, made where it is missing.

    Raises:
        GenerationError: another process writes, or the disk fails or is full.
    """
    generations = generations_directory(index)
    try:
        generations.mkdir(parents=True, exist_ok=True)
        with FileLock(index / LOCK, timeout=0):
            for prefix in (BUILDING, REMOVING):  # of a killed writer: we hold the lock
                for stale in generations.glob(f"{prefix}*"):
                    shutil.rmtree(stale, ignore_errors=True)
            for stale in index.glob(".*.*"):  # `artifact.replace_file`, killed
                if stale.name.startswith((f".{CURRENT}.", f".{HISTORY}.")):
                    stale.unlink(missing_ok=True)
            yield generations
    except Timeout:
        raise GenerationError(
            f"another build is writing to {index}: wait until it is done"
        ) from None
    except (OSError, sqlite3.OperationalError) as error:
        raise _disk_error(index, error) from None


def publish(directory: Path, index: Path) -> Path:
    """Make a finished, verified generation the live one; the caller is `writing`.

    Args:
        directory: the finished folder, beside the generations.
        index: the index.

    Returns:
        The folder under its final name; where an equal, whole generation is there, that one.
    """
    name = generation_name((directory / MANIFEST).read_bytes())
    target = generations_directory(index) / name
    if target.is_dir():
        try:
            verify_generation(target)
        except GenerationError:
            _remove(target)
    if not target.is_dir():
        artifact.publish_directory(directory, target)
    _make_live(index, name, [other for other in live_names(index) if other != name])
    return target


def live_names(index: Path) -> list[str]:
    """List the generations that were live, oldest first; the last one is, where there is one."""
    try:
        live = current_name(index)
    except GenerationError:
        return []
    try:
        lines = (index / HISTORY).read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line for line in lines if NAME.fullmatch(line)]
    former = names[: names.index(live)] if live in names else names
    return [*former, live]


def list_generations(index: Path) -> list[GenerationInfo]:
    """List all generations, newest first.

    Raises:
        GenerationError: there is no index.
    """
    *former, live = live_names(index) or [current_name(index)]
    places: dict[str, Place] = {**dict.fromkeys(former, "former"), live: "live"}
    found = [
        _inspect(directory, places.get(directory.name, "unlisted"))
        for directory in generations_directory(index).iterdir()
        if NAME.fullmatch(directory.name)
    ]
    return sorted(found, key=lambda listed: listed.built, reverse=True)


def roll_back(index: Path, name: str | None = None) -> str:
    """Make a former generation live again, once it has been verified.

    Args:
        index: the index.
        name: of the generation, any on the disk; by default the one that was live before.

    Returns:
        The name of what is live now.

    Raises:
        GenerationError: there is no such generation, or it is damaged.
    """
    with exclusive_writer(index) as generations:
        current_name(index)
        names = live_names(index)
        if name is None:
            name = next(
                (other for other in reversed(names[:-1]) if (generations / other).is_dir()), None
            )
        if name is None:
            raise GenerationError(
                f"{index} has no former generation to roll back to: name one of those that "
                "`clear-service index list` shows with --to"
            )
        if not NAME.fullmatch(name):
            raise GenerationError(f"{name!r} is not the name of a generation (32 hex digits)")
        verify_generation(generations / name)
        _make_live(index, name, names[: names.index(name)] if name in names else names)
        return name


def collect_garbage(index: Path, keep: int = 1) -> RemovedGenerations:
    """Remove all generations but the live one and the last that were live before it.

    Args:
        index: the index.
        keep: how many former generations stay, to roll back to.

    Raises:
        GenerationError: there is no index, or another process writes to it.
    """
    with exclusive_writer(index) as generations:
        live = current_name(index)
        former = [name for name in live_names(index)[:-1] if (generations / name).is_dir()]
        kept = [*former[len(former) - keep :], live] if keep < len(former) else [*former, live]
        doomed = [
            path
            for path in generations.iterdir()
            if NAME.fullmatch(path.name) and path.name not in kept
        ]
        unfinished = index / UNFINISHED
        num_bytes = sum(map(size_bytes, [*doomed, unfinished]))
        artifact.replace_file(index / HISTORY, _lines(kept))
        for directory in doomed:
            _remove(directory)
        shutil.rmtree(unfinished, ignore_errors=True)
        return RemovedGenerations(sorted(path.name for path in doomed), num_bytes)


def size_bytes(directory: Path) -> int:
    """Add up the files of a folder; 0 where it is missing."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _make_live(index: Path, name: str, former: list[str]) -> None:
    artifact.replace_file(index / CURRENT, _lines([name]))
    artifact.replace_file(index / HISTORY, _lines([*former, name]))


def _lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _remove(directory: Path) -> None:
    """Take the name away first: no reader may find half a generation."""
    hidden = directory.with_name(REMOVING + directory.name)
    directory.rename(hidden)
    shutil.rmtree(hidden)


def _inspect(directory: Path, place: Place) -> GenerationInfo:
    """Read a manifest; the files are measured, not hashed."""
    built = datetime.fromtimestamp(directory.stat().st_mtime, tz=UTC)
    size, manifest, damage = size_bytes(directory), None, ""
    try:
        manifest = read_manifest(directory)
        artifact.verify_sizes(directory, manifest.files, GenerationError)
    except GenerationError as error:
        damage = str(error)
    return GenerationInfo(directory.name, place, built, size, manifest, damage)


def _disk_error(index: Path, error: OSError | sqlite3.Error) -> GenerationError:
    is_full = getattr(error, "errno", None) == errno.ENOSPC or "full" in str(error)
    reason = "the disk is full" if is_full else (getattr(error, "strerror", None) or str(error))
    free_bytes = shutil.disk_usage(index).free if index.is_dir() else 0
    return GenerationError(
        f"the index cannot be written to {index}: {reason} ({free_bytes // 2**20} MiB free); "
        "the live generation is unchanged"
    )
