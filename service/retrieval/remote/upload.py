"""Upload of an index: the live generation file by file, each with its hash, CURRENT last.

URL/CURRENT, URL/HISTORY, URL/calibration.json, URL/generations/<name>/... are as in a folder.
Beside each file lies FILE.sha256, a line as of `sha256sum`: FILE was sent whole, with this hash.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.errors import GenerationError, MissingObjectError, StoreError
from service.retrieval.generation.generation import (
    CURRENT,
    NAME,
    current_name,
    generations_directory,
    verify_generation,
)
from service.retrieval.generation.manifest import MANIFEST
from service.retrieval.generation.writer import HISTORY
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.relevance.choice import CALIBRATION
from service.retrieval.remote.store import Store
from service.retrieval.storage.checksums import FileRecord, record_files

GENERATIONS, HASH = "generations", ".sha256"


@dataclass(frozen=True)
class UploadReport:
    """What an upload sent, what was there already, and the old generations that it removed."""

    generation: str
    sent: list[str]
    kept: list[str]
    num_bytes: int
    removed: list[str]


def upload(
    index: Path,
    store: Store,
    *,
    is_forced: bool = False,
    keep: int | None = None,
    on_progress: OnProgress = ignore_progress,
) -> UploadReport:
    """Send the live generation of an index; it is live at the URL once all of it is there.

    Args:
        index: the folder of the index.
        store: where to.
        is_forced: send files again that are there.
        keep: number of former generations to keep there; by default all.
        on_progress: told how many bytes are there.

    Raises:
        GenerationError: there is no index, or its live generation is damaged.
        StoreError: the store cannot be reached, or refuses; another upload goes on from there.
    """
    if store.folder is not None and store.folder.resolve().is_relative_to(index.resolve()):
        raise StoreError(
            f"{store.url} is the folder of the index itself, or in it: name another place"
        )
    name = current_name(index)
    directory = generations_directory(index) / name
    records = verify_generation(directory).files | record_files(directory, [MANIFEST])
    _check_is_upload(store)
    total, done = sum(record["size_bytes"] for record in records.values()), 0
    sent = []
    for file, record in records.items():  # the manifest is the last
        target = f"{GENERATIONS}/{name}/{file}"
        on_progress("upload", done, total)
        if is_forced or not is_there(store, target, record):
            counted = _Counted(on_progress, done, total)
            send(store, directory / file, target, record, counted)
            sent.append(file)
        done += record["size_bytes"]
    on_progress("upload", total, total)
    _send_calibration(index, store)
    _check_sizes(store, name, records)
    removed = _make_live(store, name, keep)
    num_bytes = sum(records[file]["size_bytes"] for file in sent)
    kept = [file for file in records if file not in sent]
    return UploadReport(name, sent, kept, num_bytes, removed)


class _Counted:
    """Reports the bytes of a file as they are sent."""

    def __init__(self, on_progress: OnProgress, done: int, total: int) -> None:
        self._on_progress, self._done, self._total = on_progress, done, total

    def __call__(self, num_bytes: int) -> None:
        self._done = min(self._done + num_bytes, self._total)
        self._on_progress("upload", self._done, self._total)


def _check_is_upload(store: Store) -> None:
    """Refuse to write over an index that was built where the URL leads: it may be in use."""
    try:
        name = remote_current(store)
    except (MissingObjectError, GenerationError):
        return
    manifest = f"{GENERATIONS}/{name}/{MANIFEST}"
    if store.size_bytes(manifest) is not None and read_hash(store, manifest) is None:
        raise StoreError(
            f"{store.url} is an index that was built there, not an upload: name another place, or "
            "remove it first"
        )


def remote_current(store: Store) -> str:
    """Return the name of the generation that is live at a URL.

    Raises:
        GenerationError: CURRENT does not hold a generation's name.
        StoreError: there is no CURRENT, or the store cannot be reached.
    """
    try:
        content = store.read(CURRENT)
    except MissingObjectError:
        raise MissingObjectError(
            f"there is no index at {store.url}: upload one with "
            f"`clear-service index upload {store.url} --index DIR`"
        ) from None
    name = content[:64].decode("ascii", errors="replace").strip()
    if not NAME.fullmatch(name):
        raise GenerationError(
            f"{store.url}/{CURRENT} does not hold the name of a generation: upload the index again"
        )
    return name


def is_there(store: Store, target: str, record: FileRecord) -> bool:
    """Return whether a file was sent whole: by its size, and the hash that was sent after it."""
    return (
        store.size_bytes(target) == record["size_bytes"]
        and read_hash(store, target) == record["sha256"]
    )


def read_hash(store: Store, target: str) -> str | None:
    """Return the hash that lies beside an object, or None where there is none."""
    try:
        return store.read(target + HASH).decode("ascii", errors="replace").partition(" ")[0]
    except MissingObjectError:
        return None


def send(
    store: Store, path: Path, target: str, record: FileRecord, on_bytes: Callable[[int], None]
) -> None:
    """Send a file, then its hash."""
    store.send(path, target, on_bytes)
    store.write(target + HASH, f"{record['sha256']}  {path.name}\n".encode())


def _send_calibration(index: Path, store: Store) -> None:
    """Send the calibration of the index if it is another one; remove it if there is none."""
    if not (index / CALIBRATION).is_file():
        for name in (CALIBRATION + HASH, CALIBRATION):
            if store.size_bytes(name) is not None:
                store.remove(name)
        return
    [record] = record_files(index, [CALIBRATION]).values()
    if not is_there(store, CALIBRATION, record):
        send(store, index / CALIBRATION, CALIBRATION, record, lambda num_bytes: None)


def _check_sizes(store: Store, name: str, records: Mapping[str, FileRecord]) -> None:
    for file, record in records.items():
        target = f"{GENERATIONS}/{name}/{file}"
        if (found := store.size_bytes(target)) != record["size_bytes"]:
            raise StoreError(
                f"{store.url}/{target} has {found} bytes after the upload, not "
                f"{record['size_bytes']}: another program changes it; run the upload again"
            )


def _make_live(store: Store, name: str, keep: int | None) -> list[str]:
    """Point CURRENT at a generation; return the names of those that were then removed."""
    try:
        lines = store.read(HISTORY).decode("ascii", errors="replace").splitlines()
    except MissingObjectError:
        lines = []
    names = [*(each for each in lines if NAME.fullmatch(each) and each != name), name]
    store.write(CURRENT, f"{name}\n".encode())
    kept = names if keep is None else names[-keep - 1 :]
    store.write(HISTORY, "".join(f"{each}\n" for each in kept).encode())
    if keep is None:
        return []
    found = [each for each in store.names(GENERATIONS) if NAME.fullmatch(each)]
    removed = sorted(each for each in found if each not in kept)
    for each in removed:
        store.remove(f"{GENERATIONS}/{each}")
    return removed
