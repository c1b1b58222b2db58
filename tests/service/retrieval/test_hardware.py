"""The machine as read from trees of /proc and /sys/fs/cgroup that each test writes."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from service.retrieval.errors import DeviceError, MemoryShortError
from service.retrieval.hardware import (
    available_cores,
    busy_seconds,
    free_bytes,
    multiplies_bf16,
    read_memory,
    resolve_device,
)

CPU = torch.device("cpu")
MIB = 2**20
MEMINFO = "MemTotal:  8192 kB\nMemFree:  100 kB\nMemAvailable:  6144 kB\nHugePages_Total:  0"
UNLIMITED_V1 = "9223372036854771712"


def write_tree(root: Path, membership: str | None, files: Mapping[str, object] = {}) -> Path:
    """Write /proc, its `self/cgroup` if any, and files below /sys/fs/cgroup."""
    texts = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    texts |= {"proc/meminfo": MEMINFO, "proc/self/statm": "900 300 1 1 0 1 0"}
    if membership is not None:
        texts["proc/self/cgroup"] = membership
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose scheduler gives the process eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_a_containers_cpu_quota_bounds_the_cores(tmp_path: Path, quota: str, expected: int) -> None:
    assert available_cores(write_tree(tmp_path, "0::/", {"cpu.max": quota})) == expected


NESTED = "0::/system.slice/clear.service/worker"
V1_MEMBERSHIP = "9:name=systemd:/elsewhere\n4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab"


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (None, {}, 8),
        (None, {"cpu.max": "300000 100000"}, 3),
        (NESTED, {"system.slice/cpu.max": "400000 100000"}, 4),
        (NESTED, {"system.slice/clear.service/cpu.max": "200000 100000"}, 2),
        (
            NESTED,
            {
                "system.slice/cpu.max": "300000 100000",
                "system.slice/clear.service/cpu.max": "max 100000",
                "system.slice/clear.service/worker/cpu.max": "500000 100000",
            },
            3,
        ),
        (NESTED, {"other.slice/cpu.max": "100000 100000"}, 8),
        ("0::/../sibling", {"../sibling/cpu.max": "100000 100000"}, 8),
        ("0::/../sibling", {"cpu.max": "200000 100000"}, 2),
        (V1_MEMBERSHIP, {"cpu/cpu.cfs_quota_us": 150000, "cpu/cpu.cfs_period_us": 50000}, 3),
        (V1_MEMBERSHIP, {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 8),
        (
            V1_MEMBERSHIP,
            {
                "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": 200000,
                "cpu,cpuacct/docker/ab/cpu.cfs_period_us": 100000,
            },
            2,
        ),
        (f"{V1_MEMBERSHIP}\n0::/a", {"unified/a/cpu.max": "500000 100000"}, 5),
    ],
)
def test_the_lowest_cpu_quota_of_the_cgroups_above_the_process_counts(
    tmp_path: Path, membership: str | None, files: dict[str, object], expected: int
) -> None:
    assert available_cores(write_tree(tmp_path, membership, files)) == expected


@pytest.mark.usefixtures("eight_cores")
def test_a_machine_without_proc_and_sys_has_its_affinity(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "missing") == 8


@pytest.mark.usefixtures("eight_cores")
def test_files_that_cannot_be_read_set_no_limit(tmp_path: Path) -> None:
    root = write_tree(tmp_path, "0::/")
    for name in ("cpu.max", "memory.max", "memory.current"):
        (root / "sys/fs/cgroup" / name).mkdir(parents=True)  # as root every mode is readable

    assert available_cores(root) == 8
    assert (read_memory(CPU, root).total_bytes, free_bytes("cpu", root)) == (8 * MIB, 6 * MIB)


@pytest.mark.parametrize(
    ("membership", "files", "limit_mib"),
    [
        (None, {}, 8),
        ("0::/", {"memory.max": "max", "memory.current": MIB}, 8),
        ("0::/", {"memory.max": 3 * MIB, "memory.current": MIB}, 3),
        ("0::/", {"memory.max": 90 * MIB, "memory.current": MIB}, 8),
        (NESTED, {"system.slice/memory.max": 4 * MIB, "system.slice/memory.current": MIB}, 4),
        (
            NESTED,
            {
                "system.slice/memory.max": 4 * MIB,
                "system.slice/memory.current": MIB,
                "system.slice/clear.service/memory.max": 5 * MIB,
                "system.slice/clear.service/memory.current": MIB,
            },
            4,
        ),
        (
            V1_MEMBERSHIP,
            {
                "memory/memory.limit_in_bytes": UNLIMITED_V1,
                "memory/memory.usage_in_bytes": MIB,
                "memory/docker/ab/memory.limit_in_bytes": 2 * MIB,
                "memory/docker/ab/memory.usage_in_bytes": MIB,
            },
            2,
        ),
        (
            V1_MEMBERSHIP,  # a container that sees its own cgroup as the root
            {"memory/memory.limit_in_bytes": 2 * MIB, "memory/memory.usage_in_bytes": MIB},
            2,
        ),
        (
            f"{V1_MEMBERSHIP}\n0::/a",
            {"unified/a/memory.max": 2 * MIB, "unified/a/memory.current": MIB},
            2,
        ),
    ],
)
def test_the_lowest_memory_limit_of_the_cgroups_above_the_process_counts(
    tmp_path: Path, membership: str | None, files: dict[str, object], limit_mib: int
) -> None:
    root = write_tree(tmp_path, membership, files)

    assert read_memory(CPU, root).total_bytes == limit_mib * MIB
    # In each limited cgroup one MiB is used, on the machine two.
    assert free_bytes("cpu", root) == min(limit_mib - 1, 6) * MIB


@pytest.mark.parametrize(
    "stat", ["inactive_file 1048576", "inactive_file 7\ntotal_inactive_file 1048576"]
)
def test_inactive_file_cache_counts_as_free(tmp_path: Path, stat: str) -> None:
    limits: dict[str, object] = {"memory.max": 4 * MIB, "memory.current": 3 * MIB}

    root = write_tree(tmp_path, "0::/", limits | {"memory.stat": f"anon 5\n{stat}"})

    assert free_bytes("cpu", root) == 2 * MIB


def test_memory_that_the_kernel_does_not_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MemoryShortError, match="meminfo does not report what is available"):
        free_bytes("cpu", tmp_path)

    assert read_memory(CPU, tmp_path).total_bytes == math.inf


def test_the_used_memory_is_the_process_resident_set(tmp_path: Path) -> None:
    used_bytes = read_memory(CPU, write_tree(tmp_path, None)).used_bytes

    assert used_bytes == 300 * os.sysconf("SC_PAGE_SIZE")


def test_this_process_uses_less_memory_than_this_machine_has() -> None:
    used_bytes, total_bytes = read_memory(CPU)

    assert 10**7 < used_bytes < total_bytes < math.inf
    assert 0 < free_bytes("cpu") < total_bytes


def test_a_broken_gpu_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)

    assert all(map(math.isnan, read_memory(torch.device("cuda:0"))))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu amx_bf16 amx_int8", True),
        ("flags\t\t: fpu avx512_bf16", True),
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_bf16_instructions_are_read_from_the_kernel(
    tmp_path: Path, flags: str, expected: bool
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{flags}\nbugs\t: amx_bf16\n")

    assert multiplies_bf16(tmp_path) == expected


def test_busy_seconds_are_those_of_the_process_s_cores_without_idle_and_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 10})
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(
        "cpu  999 999 999 999 999 999 999 999 0 0\n"
        "cpu0 100 20 30 9000 9000 4 5 6 100 0\n"
        "cpu1 700 0 0 0 0 0 0 0 0 0\n"
        "cpu10 35 0 0 9000 0 0 0 0 0 0\n"
        "intr 12 34\n"
    )
    assert busy_seconds(tmp_path) == 2.0
    assert busy_seconds(tmp_path / "none") == 0.0


def test_a_machine_without_cpuinfo_does_not_multiply_bf16(tmp_path: Path) -> None:
    assert not multiplies_bf16(tmp_path)


@pytest.mark.parametrize("name", ["tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is unknown: name auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu() -> None:
    with pytest.raises(DeviceError, match=r"the device cuda is not there \(CUDA devices: 0\)"):
        resolve_device("cuda")

    assert resolve_device("auto") == CPU


def test_importing_the_module_loads_no_torch() -> None:
    code = "import sys, service.retrieval.hardware; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
