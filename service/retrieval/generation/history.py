"""The history of an index: publish a generation, list, roll back, remove; one writer at a time.

INDEX/CURRENT   the name of the live generation
INDEX/HISTORY   the names of the generations that were live, oldest first; the live one is last

CURRENT is replaced first. If a writer dies before it replaces HISTORY, readers ignore the names
after that of the live generation.
"""

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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
from service.retrieval.generation.writer import HISTORY, REMOVING, exclusive_writer
from service.retrieval.storage import artifact, checksums

PREFIX = re.compile(r"[0-9a-f]{1,32}")
UNFINISHED = "unfinished"  # the shards that interrupted builds encoded

# `unlisted`: never live, or rolled back from.
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


def publish(directory: Path, index: Path) -> Path:
    """Make a finished, verified generation the live one; the caller is the `exclusive_writer`.

    Args:
        directory: the finished folder, in the same folder as the generations.
        index: the index.

    Returns:
        The folder under its final name; or the existing folder of an equal, undamaged generation.
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
    make_live(index, name, [other for other in live_names(index) if other != name])
    return target


def live_names(index: Path) -> list[str]:
    """Return the generations that were live, oldest first; the last one is the live one."""
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
    """Return all generations, the last built first.

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
    """Verify a former generation and make it live again.

    Args:
        index: the index.
        name: any generation on the disk, or the first digits of its name if no other name begins
            with them; by default the one that was live before.

    Returns:
        The name of the generation that is now live.

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
                f"{index} has no former generation to roll back to: name one with --to "
                "(`clear-service index list` shows them)"
            )
        name = _whole_name(generations, name)
        verify_generation(generations / name)
        make_live(index, name, names[: names.index(name)] if name in names else names)
        return name


def _whole_name(generations: Path, name: str) -> str:
    """Return the name of the one generation whose name begins so."""
    if not PREFIX.fullmatch(name):
        raise GenerationError(
            f"{name!r} is not the name of a generation (32 hex digits): "
            "`clear-service index list` shows the names"
        )
    found = [each.name for each in generations.glob(f"{name}*") if NAME.fullmatch(each.name)]
    if len(found) > 1:
        raise GenerationError(
            f"{name!r} begins the names of {len(found)} generations ({', '.join(sorted(found))}): "
            "give more digits"
        )
    if not found:
        raise GenerationError(
            f"no generation's name begins with {name!r}: `clear-service index list` shows the names"
        )
    return found[0]


def collect_garbage(index: Path, keep: int = 1) -> RemovedGenerations:
    """Remove all generations but the live one and the last `keep` that were live before it.

    The shards of interrupted builds are removed, too.

    Args:
        index: the index.
        keep: number of former generations to keep for a rollback.

    Raises:
        GenerationError: there is no index, or another process writes to it.
    """
    with exclusive_writer(index) as generations:
        live = current_name(index)
        former = [name for name in live_names(index)[:-1] if (generations / name).is_dir()]
        kept = [*former[len(former) - keep :], live] if keep < len(former) else [*former, live]
        removable = [
            path
            for path in generations.iterdir()
            if NAME.fullmatch(path.name) and path.name not in kept
        ]
        unfinished = index / UNFINISHED
        num_bytes = sum(map(size_bytes, [*removable, unfinished]))
        artifact.replace_file(index / HISTORY, _lines(kept))
        for directory in removable:
            _remove(directory)
        shutil.rmtree(unfinished, ignore_errors=True)
        return RemovedGenerations(sorted(path.name for path in removable), num_bytes)


def drop_generations(index: Path, names: list[str]) -> None:
    """Remove generations by name, but for the live one, and forget that they were live.

    Raises:
        GenerationError: another process writes to the index.
    """
    with exclusive_writer(index) as generations:
        live = current_name(index)
        dropped = [name for name in names if name != live]
        left = [name for name in live_names(index) if name not in dropped]
        artifact.replace_file(index / HISTORY, _lines(left))
        for name in dropped:
            if (generations / name).is_dir():
                _remove(generations / name)


def size_bytes(directory: Path) -> int:
    """Return the total size of a folder's files; 0 if it is missing."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def make_live(index: Path, name: str, former: list[str]) -> None:
    """Let CURRENT name a whole generation; the caller is the `exclusive_writer`."""
    artifact.replace_file(index / CURRENT, _lines([name]))
    artifact.replace_file(index / HISTORY, _lines([*former, name]))


def _lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _remove(directory: Path) -> None:
    """Remove a generation; rename it first, so that no reader finds half of it."""
    hidden = directory.with_name(REMOVING + directory.name)
    directory.rename(hidden)
    shutil.rmtree(hidden)


def _inspect(directory: Path, place: Place) -> GenerationInfo:
    """Read the manifest and compare the files' sizes; hashes are not computed."""
    built = datetime.fromtimestamp(directory.stat().st_mtime, tz=UTC)
    size, manifest, damage = size_bytes(directory), None, ""
    try:
        manifest = read_manifest(directory)
        checksums.verify_sizes(directory, manifest.files, GenerationError)
    except GenerationError as error:
        damage = str(error)
    return GenerationInfo(directory.name, place, built, size, manifest, damage)
