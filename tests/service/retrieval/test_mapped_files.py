import sys
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.mapped_files import release_file_pages, resident_bytes_by_mapping

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


def test_a_system_without_proc_has_no_mappings(tmp_path: Path) -> None:
    assert not resident_bytes_by_mapping(tmp_path)


def test_the_bytes_of_equal_paths_are_added(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/smaps").write_text(
        "7f00-7f10 r--p 00000000 00:00 0 \nRss: 4 kB\nPss: 1 kB\n"
        "7f10-7f20 r-xp 00000000 00:1f 7  /a b.so\nRss: 8 kB\n"
        "7f20-7f30 rw-p 00000000 00:1f 7  /a b.so\nRss: 16 kB\n"
    )

    assert resident_bytes_by_mapping(tmp_path) == {"": 4096, "/a b.so": 24576}
