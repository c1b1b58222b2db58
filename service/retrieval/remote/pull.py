"""Pull of a generation: its manifest, proved by the name, then each file, proved by its hash."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from service.retrieval.errors import GenerationError, quoted
from service.retrieval.generation.generation import NAME
from service.retrieval.generation.manifest import MANIFEST, generation_name, parse_manifest
from service.retrieval.progress import OnProgress
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import GENERATIONS
from service.retrieval.storage.artifact import is_inside
from service.retrieval.storage.checksums import FileRecord, sha256_of

logger = logging.getLogger(__name__)
UPLOAD_AGAIN = "upload the index again with --force"


def pull_generation(
    store: Store,
    name: str,
    directory: Path,
    on_progress: OnProgress,
) -> None:
    """Have all files of a generation in a folder; those that are there and whole stay.

    Args:
        store: where the generation is.
        name: the generation's, which proves its manifest.
        directory: the folder, which another pull may have begun to fill.
        on_progress: told how many bytes are there.

    Raises:
        GenerationError: a file at the URL is damaged.
        StoreError: the store cannot be reached, or refuses.
    """
    place = f"{store.url}/{GENERATIONS}/{name}"
    content = store.read(f"{GENERATIONS}/{name}/{MANIFEST}")
    if not NAME.fullmatch(name) or generation_name(content) != name:
        raise GenerationError(f"{place}/{MANIFEST} was altered: {UPLOAD_AGAIN}")
    (directory / MANIFEST).write_bytes(content)
    try:
        records = parse_manifest(directory / MANIFEST).files
    except GenerationError as error:  # which names the copy
        reason = str(error).removeprefix(f"{directory / MANIFEST}").lstrip(": ")
        raise GenerationError(f"{place}/{MANIFEST} {reason}") from None
    for file in records:
        _check_name(file, place)
    total, done = sum(record["size_bytes"] for record in records.values()), 0
    for file, record in records.items():

        def on_bytes(num_bytes: int, before: int = done) -> None:
            on_progress("pull", before + num_bytes, total)

        on_bytes(0)
        if not _is_whole(directory / file, record):
            _pull_file(store, f"{GENERATIONS}/{name}/{file}", directory / file, record, on_bytes)
            logger.info("%s of generation %s is pulled: %d bytes", file, name, record["size_bytes"])
        done += record["size_bytes"]
    on_progress("pull", total, total)


def _check_name(file: str, place: str) -> None:
    """Check that a manifest names a file of the generation's own folder."""
    if not file or Path(file).name != file or not is_inside(file) or file == MANIFEST:
        raise GenerationError(
            f"{place}/{MANIFEST} names a file outside its folder: {quoted(file)}: do not use it"
        )


def _is_whole(path: Path, record: FileRecord) -> bool:
    """Return whether a file is there, from a pull that was interrupted later."""
    return (
        path.is_file()
        and path.stat().st_size == record["size_bytes"]
        and sha256_of(path) == record["sha256"]
    )


def _pull_file(
    store: Store, name: str, path: Path, record: FileRecord, on_bytes: Callable[[int], None]
) -> None:
    """Write an object to a file, which stays only if it is what the manifest says."""
    expected, place = record["size_bytes"], f"{store.url}/{name}"
    found = store.size_bytes(name)
    if found is None:
        raise GenerationError(f"{place} is missing: {UPLOAD_AGAIN}")
    if found != expected:
        raise GenerationError(
            f"{place} has {found} bytes, its manifest says {expected}: {UPLOAD_AGAIN}"
        )
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in store.blocks(name):
            file.write(block)
            digest.update(block)
            done += len(block)
            on_bytes(done)
    if digest.hexdigest() != record["sha256"]:
        path.unlink()
        raise GenerationError(
            f"{place} was altered (its sha256 is not the manifest's): {UPLOAD_AGAIN}"
        )
