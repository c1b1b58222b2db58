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

FULL_DISK = """
import ctypes, json, os, pathlib, sys

from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.corpus.reader import Passage
from service.retrieval.searcher import Searcher

folder, checkpoint, kind = sys.argv[1:]
encoder = load_encoder(checkpoint, device="cpu")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
old = [("f", Passage(f"{row:04}", f"old {row}")) for row in range(20)]
new = [("f", Passage(f"{row:04}", f"new {row} " * 20)) for row in range(200)]
# One disk per size: each fills up at another step, until one is large enough.
found = []
for kib in range(100, 1000, 8):
    place = pathlib.Path(folder, str(kib))
    place.mkdir()
    if libc.mount(b"none", str(place).encode(), b"tmpfs", 0, f"size={kib}k".encode()):
        sys.exit(77)
    index = place / "index"
    try:
        build_index(old, index, encoder)
    except GenerationError:
        libc.umount(str(place).encode())
        continue
    before = current_name(index)
    try:
        if kind == "build":
            build_index(new, index, encoder)
        else:
            update_index(new, index, encoder)
        reason = ""
    except GenerationError as error:
        reason = str(error)
    Searcher(encoder, open_current(index)).check_canaries()
    found.append([kib, reason, current_name(index) == before])
    if not reason:
        break
    # Remount the same disk larger.
    if libc.mount(b"none", str(place).encode(), b"tmpfs", 32, b"size=4m"):
        sys.exit(78)
    build_index(new, index, encoder)
    assert open_current(index).passages.num_documents == 200
    libc.umount(str(place).encode())
sys.stdout.write(json.dumps(found))
"""


def can_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["build", "update"])
def test_a_full_disk_is_named_the_live_generation_stays_and_with_room_a_rerun_succeeds(
    tmp_path: Path, tiny_checkpoint: Path, kind: str
) -> None:
    if not can_mount():
        pytest.skip("needs the right to mount a file system")

    done = run_script(FULL_DISK, tmp_path, tiny_checkpoint, kind, timeout_seconds=800)

    assert done.returncode == 0, done.stderr
    *full, last = json.loads(done.stdout)
    assert len(full) > 3
    assert last[1:] == ["", False]
    for _, reason, is_unchanged in full:
        assert "the disk is full" in reason
        assert is_unchanged
