import asyncio
import errno
import gc
import os
import platform
import subprocess
import sys

import pytest

from service import lifespan
from service.lifespan import State
from service.process import report_exhausted_files
from service.settings.settings import load_settings
from service.telemetry.tracing import Tracing


class EndOfTest(Exception):
    """Ends an endless task."""


MEBIBYTE = 2**20
LARGE_BYTES, SMALL_BYTES = MEBIBYTE, MEBIBYTE // 5
# Buffers of 20 MiB make glibc keep all smaller ones; small buffers between the large ones keep the
# heap from shrinking.
SCRIPT = """
import asyncio
import sys
from pathlib import Path

from service import process

LARGE = int(sys.argv[2])

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] != "as it is":
    process.configure_allocator()
before = resident_bytes()
for _ in range(3):
    bytearray(b"x") * (20 * 2**20)
large, small = [], []
for _ in range(200):
    large.append(bytearray(b"x") * LARGE)
    small.append(bytearray(b"x") * 10_000)
del large
if sys.argv[1] == "trimmed":
    process.TRIM_EVERY_SECONDS = 0.01
    try:
        asyncio.run(asyncio.wait_for(process.trim_memory_regularly(), 1))
    except TimeoutError:
        pass
print(resident_bytes() - before)
"""


def kept_bytes(mode: str, buffer_bytes: int = LARGE_BYTES, **environment: str) -> int:
    plain = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode, str(buffer_bytes)],
        capture_output=True,
        text=True,
        check=True,
        env=plain | environment,
    )
    return int(done.stdout)


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")


def test_a_serving_process_returns_large_buffers() -> None:
    assert kept_bytes("ours") < 12 * MEBIBYTE
    assert kept_bytes("as it is") > 120 * MEBIBYTE


def test_smaller_buffers_are_returned_when_memory_is_trimmed() -> None:
    assert kept_bytes("ours", SMALL_BYTES) > 30 * MEBIBYTE
    assert kept_bytes("trimmed", SMALL_BYTES) < 12 * MEBIBYTE


def test_an_allocator_configured_by_the_environment_is_unchanged() -> None:
    assert kept_bytes("ours", MALLOC_MMAP_THRESHOLD_=str(32 * MEBIBYTE)) > 120 * MEBIBYTE


def test_when_no_more_files_can_be_opened_it_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that cannot be accepted is closed without a word."""
    results = [True, False, False, True, False]

    def dup(descriptor: int) -> int:
        if not results:
            raise EndOfTest
        if results.pop(0):
            return genuine(descriptor)
        raise OSError(errno.EMFILE, "Too many open files")

    genuine = os.dup
    monkeypatch.setattr(os, "dup", dup)

    with pytest.raises(EndOfTest):
        asyncio.run(report_exhausted_files(every_seconds=0))

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "no more files can be opened (ulimit -n " in caplog.text


def test_the_collection_after_loading_leaves_out_what_imports_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = gc.get_freeze_count() + len(gc.get_objects())
    frozen = []

    def load_engine(*_: object) -> None:
        frozen.append(gc.get_freeze_count())
        raise EndOfTest

    async def load() -> None:
        async with lifespan.lifespan(State(load_settings()), Tracing(None)):
            pass

    monkeypatch.setattr(lifespan, "load_engine", load_engine)
    try:
        with pytest.raises(EndOfTest):
            asyncio.run(load())
    finally:
        gc.unfreeze()

    assert frozen[0] > 0.9 * imported
