import os
import platform
import subprocess
import sys

import pytest

MEBIBYTE = 2**20
# Buffers of 20 MiB teach glibc to keep all that are smaller; small ones between those of 1 MiB
# hold the heap's end.
SCRIPT = """
import sys
from pathlib import Path

from service.allocator import give_memory_back

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "ours":
    give_memory_back()
before = resident_bytes()
for _ in range(3):
    bytearray(b"x") * (20 * 2**20)
large, small = [], []
for _ in range(100):
    large.append(bytearray(b"x") * 2**20)
    small.append(bytearray(b"x") * 100_000)
del large
print(resident_bytes() - before)
"""


def kept_bytes(mode: str, **environment: str) -> int:
    plain = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode],
        capture_output=True,
        text=True,
        check=True,
        env=plain | environment,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_a_serving_process_gives_large_buffers_back() -> None:
    assert kept_bytes("ours") < 20 * MEBIBYTE
    assert kept_bytes("as it is") > 80 * MEBIBYTE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_an_allocator_set_by_the_environment_stays_as_it_is() -> None:
    assert kept_bytes("ours", MALLOC_MMAP_THRESHOLD_=str(32 * MEBIBYTE)) > 80 * MEBIBYTE
