"""Files that are mapped into this process: their resident pages, counted and released (Linux)."""

import ctypes
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
MADV_DONTNEED = 4
# start-end permissions offset device inode path
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$")
# Never of programs and libraries: pages that the loader changed would be lost.
DATA_FILES = (".safetensors", "/graph.bin", ".arrow", ".npy")


class Mapping(NamedTuple):
    """One mapping of this process: its place, permissions, path, and resident and changed bytes."""

    start: int
    stop: int
    permissions: str
    path: str
    resident: int
    changed: int


def release_file_pages() -> None:
    """Return the resident pages of mapped data files to the system, which still caches the files.

    Weights are read once, when they are packed, and rows of an embedding table as texts use them;
    their pages stay resident for as long as the file is mapped. A later access maps them again.
    """
    _release(
        (start, stop)
        for start, stop, permissions, path in _mappings()
        if permissions.startswith("r--") and path.endswith(DATA_FILES)
    )


def release_program_pages() -> None:
    """Return the resident pages of programs and libraries to the system, which caches the files.

    Most were read to start and are not needed again; what runs is mapped again. A mapping that can
    be written to or has a page that was changed, as by the loader, is left as it is.
    """
    _release(
        (each.start, each.stop)
        for each in list(_read_mappings(ROOT))
        if each.path.startswith("/")
        and each.permissions in ("r--p", "r-xp")
        and each.resident
        and not each.changed
    )


def _release(spans: Iterable[tuple[int, int]]) -> None:
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None:
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, stop in spans:
        madvise(start, stop - start, MADV_DONTNEED)


class RegularRelease:
    """Releases the pages of mapped data files now and then, between batches of a long work.

    A row of an embedding table maps 64 KiB around it: without this, a build has the whole table
    resident after some thousand texts.
    """

    def __init__(self, every_seconds: float = 0.25) -> None:
        """Release nothing yet; a release takes some 2 ms."""
        self._every_seconds = every_seconds
        self._released = time.monotonic()

    def step(self) -> None:
        """Release if it is time; call this after each batch."""
        if time.monotonic() - self._released >= self._every_seconds:
            release_file_pages()
            self._released = time.monotonic()


def resident_bytes_by_mapping(root: Path = ROOT) -> Counter[str]:
    """Return the resident bytes of each mapping by its path, `[heap]`, or `` of no file."""
    found: Counter[str] = Counter()
    for each in _read_mappings(root):
        found[each.path] += each.resident
    return found


def _read_mappings(root: Path) -> Iterator[Mapping]:
    """Yield all mappings; nothing where the system does not list them."""
    resident = 0
    with suppress(OSError), (root / "proc/self/smaps").open() as lines:
        for line in lines:
            if found := MAPPING.match(line):
                mapping = found
            elif line.startswith("Rss:"):
                resident = int(line.split()[1]) * 1024
            elif line.startswith("Anonymous:"):
                start, stop = int(mapping[1], 16), int(mapping[2], 16)
                changed = int(line.split()[1]) * 1024
                yield Mapping(start, stop, mapping[3], mapping[4], resident, changed)


def _mappings() -> Iterator[tuple[int, int, str, str]]:
    """Yield start, end, permissions and path of each mapping."""
    with suppress(OSError):
        for line in (ROOT / "proc/self/maps").read_text().splitlines():
            if mapping := MAPPING.match(line):
                yield int(mapping[1], 16), int(mapping[2], 16), mapping[3], mapping[4]
