"""Builds and updates on a full disk: a tmpfs of a few hundred KiB, mounted for the test.

This needs the right to mount. `tests/service/retrieval/indexing/test_build.py` simulates a full
disk without it, by a limit on the size of files.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import run_script

KINDS = ("build", "update")
FULL_DISK = """
import ctypes, json, os, pathlib, sys

from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.corpus.reader import Passage
from service.retrieval.searcher import Searcher

folder, checkpoint, *kinds = sys.argv[1:]
encoder = load_encoder(checkpoint, device="cpu")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
old = [("f", Passage(f"{row:04}", f"old {row}")) for row in range(20)]
new = [("f", Passage(f"{row:04}", f"new {row} " * 20)) for row in range(200)]

def fill(write, kib, place):
    # Returns the reason and whether the live generation stayed, or None where `old` has no room.
    place.mkdir(parents=True)
    if libc.mount(b"none", str(place).encode(), b"tmpfs", 0, f"size={kib}k".encode()):
        sys.exit(77)
    index = place / "index"
    try:
        build_index(old, index, encoder)
    except GenerationError:
        libc.umount(str(place).encode())
        return None
    before = current_name(index)
    try:
        write(new, index, encoder)
        reason = ""
    except GenerationError as error:
        reason = str(error)
    Searcher(encoder, open_current(index)).check_canaries()
    found = [reason, current_name(index) == before]
    if reason:
        # Remount the same disk larger.
        if libc.mount(b"none", str(place).encode(), b"tmpfs", 32, b"size=4m"):
            sys.exit(78)
        build_index(new, index, encoder)
        assert open_current(index).passages.num_documents == 200
        libc.umount(str(place).encode())
    return found

# One disk per size: each fills up at another step, until one is large enough.
all_found = {}
for kind in kinds:
    write = {"build": build_index, "update": update_index}[kind]
    all_found[kind] = []
    for kib in range(100, 1000, 16):
        found = fill(write, kib, pathlib.Path(folder, kind, str(kib)))
        if found:
            all_found[kind].append(found)
            if not found[0]:
                break
sys.stdout.write(json.dumps(all_found))
"""


def can_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, check=False).returncode


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path
) -> dict[str, list[tuple[str, bool]]]:
    """Return, for each writer and size of disk, the reason and whether `CURRENT` stayed."""
    if not can_mount():
        pytest.skip("needs the right to mount a file system")
    folder = tmp_path_factory.mktemp("disks")
    done = run_script(FULL_DISK, folder, tiny_checkpoint, *KINDS, timeout_seconds=800)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_named_the_live_generation_stays_and_with_room_a_rerun_succeeds(
    found: dict[str, list[tuple[str, bool]]], kind: str
) -> None:
    *full, last = found[kind]
    assert len(full) > 3
    assert last == ["", False]
    for reason, is_unchanged in full:
        assert "the disk is full" in reason
        assert is_unchanged
