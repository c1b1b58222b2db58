import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.retrieval.mapped_files import (
    RegularRelease,
    release_file_pages,
    release_program_pages,
    resident_bytes_by_mapping,
)

MEBIBYTE = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("name", "mode", "kept"),
    [
        ("model.safetensors", "r", 0),
        ("graph.bin", "r", 0),
        ("passages.arrow", "r", 0),
        ("other.bin", "r", MEBIBYTE),
        ("model.safetensors", "c", MEBIBYTE),  # can be written to: changes would be lost
    ],
)
def test_the_pages_of_read_only_data_files_are_released_and_read_again(
    tmp_path: Path, name: str, mode: str, kept: int
) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(range(256)) * 4096)
    content = np.memmap(path, np.uint8, mode)
    assert int(content.sum(dtype=np.int64)) == 255 * 128 * 4096
    assert resident_bytes_by_mapping()[str(path)] == MEBIBYTE

    release_file_pages()

    assert resident_bytes_by_mapping()[str(path)] == kept
    assert int(content.sum(dtype=np.int64)) == 255 * 128 * 4096


def test_the_pages_of_programs_are_released_and_run_again() -> None:
    def resident() -> int:
        found = resident_bytes_by_mapping()
        return sum(size for path, size in found.items() if "libtorch_cpu" in path)

    before = resident()

    release_program_pages()

    assert before > 8 * MEBIBYTE and resident() < before / 2
    assert float((torch.eye(3) @ torch.ones(3)).sum()) == 3.0


def test_a_changed_page_of_a_mapping_that_cannot_be_written_to_any_more_is_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(bytes(MEBIBYTE))
    content = np.memmap(path, np.uint8, "c")
    content[:] = 7
    mprotect = ctypes.CDLL(None).mprotect
    mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert mprotect(content.ctypes.data, MEBIBYTE, 1) == 0  # PROT_READ

    release_program_pages()

    assert int(content.min()) == 7


def test_a_long_work_releases_pages_at_intervals(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(MEBIBYTE))
    content = np.memmap(path, np.uint8, "r")
    assert not content.any()

    RegularRelease(every_seconds=3600).step()
    assert resident_bytes_by_mapping()[str(path)] == MEBIBYTE
    RegularRelease(every_seconds=0).step()
    assert resident_bytes_by_mapping()[str(path)] == 0


def test_a_system_without_proc_has_no_mappings(tmp_path: Path) -> None:
    assert not resident_bytes_by_mapping(tmp_path)


def test_the_bytes_of_equal_paths_are_added(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/smaps").write_text(
        "7f00-7f10 r--p 00000000 00:00 0 \nRss: 4 kB\nAnonymous: 4 kB\n"
        "7f10-7f20 r-xp 00000000 00:1f 7  /a b.so\nRss: 8 kB\nAnonymous: 0 kB\n"
        "7f20-7f30 rw-p 00000000 00:1f 7  /a b.so\nRss: 16 kB\nAnonymous: 8 kB\n"
    )

    assert resident_bytes_by_mapping(tmp_path) == {"": 4096, "/a b.so": 24576}
