"""Files that are mapped into this process: their resident pages, counted and released (Linux)."""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
MADV_DONTNEED = 4
# start-end permissions offset device inode path
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$")
# Never of programs and libraries: pages that the loader changed would be lost.
DATA_FILES = (".safetensors", "/graph.bin", ".arrow", ".npy")


def release_file_pages() -> None:
    """Return the resident pages of mapped data files to the system, which still caches the files.

    Weights are read once, when they are packed, and rows of an embedding table as texts use them;
    their pages stay resident for as long as the file is mapped. A later access maps them again.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None:
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, stop, permissions, path in _mappings():
        if permissions.startswith("r--") and path.endswith(DATA_FILES):
            madvise(start, stop - start, MADV_DONTNEED)


def resident_bytes_by_mapping(root: Path = ROOT) -> Counter[str]:
    """Return the resident bytes of each mapping by its path, `[heap]`, or `` of no file."""
    found: Counter[str] = Counter()
    path = ""
    with suppress(OSError), (root / "proc/self/smaps").open() as lines:
        for line in lines:
            if mapping := MAPPING.match(line):
                path = mapping[4]
            elif line.startswith("Rss:"):
                found[path] += int(line.split()[1]) * 1024
    return found


def _mappings() -> Iterator[tuple[int, int, str, str]]:
    """Yield start, end, permissions and path of each mapping."""
    with suppress(OSError):
        for line in (ROOT / "proc/self/maps").read_text().splitlines():
            if mapping := MAPPING.match(line):
                yield int(mapping[1], 16), int(mapping[2], 16), mapping[3], mapping[4]
