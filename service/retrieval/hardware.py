"""The machine, and the share of it that this process has: cores, others on them, memory, devices.

The only module, beside `mapped_files`, that reads /proc and /sys. `root` is the folder that holds
both; tests name another.
torch is imported inside functions, so that the command line loads without it.
"""

import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.retrieval.errors import DeviceError, MemoryShortError

if TYPE_CHECKING:
    import torch

ROOT = Path("/")
# With fewer of its cores free, a process waits for them, and its times are too long.
MIN_FREE_SHARE = 0.9
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
# Limit and use of memory, in cgroup version 2 and in version 1.
MEMORY_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


class Memory(NamedTuple):
    """Bytes used and present: of a GPU by all processes, of a CPU by and for this process."""

    used_bytes: float
    total_bytes: float


class Contention:
    """The use of this process's cores by others since the object was made."""

    def __init__(self) -> None:
        """Take the first readings."""
        self._first = self._read()

    def warning(self) -> str:
        """Return why times measured meanwhile do not count; empty if enough cores were free."""
        seconds, busy, own = (
            last - first for last, first in zip(self._read(), self._first, strict=True)
        )
        others, cores = (busy - own) / seconds, len(os.sched_getaffinity(0))
        if cores - others >= MIN_FREE_SHARE * available_cores():
            return ""
        return (
            f"other processes, or other machines on this host, took {others:.1f} of {cores} cores "
            "meanwhile: these are not the times of an idle machine; measure again when it is idle"
        )

    def _read(self) -> tuple[float, float, float]:
        children = os.times()  # those that ended, such as an export of a graph
        own = time.process_time() + children.children_user + children.children_system
        return time.monotonic(), busy_seconds(), own


def available_cores(root: Path = ROOT) -> int:
    """Return the number of cores in the process's affinity, at most its cgroups' CPU quota.

    The kernel would stop more threads than that for most of each scheduling period.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *map(math.ceil, _cpu_quotas(root))]))


def busy_seconds(root: Path = ROOT) -> float:
    """Return for how long the process's cores were busy or stolen by the hypervisor, summed.

    Zero if the kernel does not tell.
    """
    cores, ticks = os.sched_getaffinity(0), 0
    for core, counts in re.findall(r"^cpu(\d+) (.*)$", _read(root / "proc/stat"), re.MULTILINE):
        user, nice, system, _, _, irq, softirq, stolen = map(int, counts.split()[:8])
        if int(core) in cores:
            ticks += user + nice + system + irq + softirq + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_flags(root: Path = ROOT) -> frozenset[str]:
    """Return the instructions of this CPU as the kernel names them; none if it does not tell."""
    found = re.search(r"^flags\s*:(.*)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def multiplies_bf16(root: Path = ROOT) -> bool:
    """Return whether this CPU has bf16 matrix units or a bf16 dot product."""
    return not BF16_FLAGS.isdisjoint(cpu_flags(root))


def resolve_device(name: str) -> "torch.device":
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    Raises:
        DeviceError: the name is unknown, or the machine has no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"the device {name} is unknown: name auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {name} is not there (CUDA devices: {torch.cuda.device_count()}): "
            "set CLEAR_DEVICE=auto or cpu, or fix the driver"
        )
    return device


def read_memory(device: "torch.device", root: Path = ROOT) -> Memory:
    """Return a device's used and total memory; NaN if the device no longer answers."""
    import torch

    if device.type != "cuda":
        return Memory(_resident_bytes(root), _total_bytes(root))
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # a broken device must not take the metrics with it
        return Memory(math.nan, math.nan)
    return Memory(total - free, total)


def free_bytes(device: str, root: Path = ROOT) -> int:
    """Return how many bytes this process may still allocate, reclaimable file cache included.

    Raises:
        MemoryShortError: the kernel does not report what is available.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    available = _meminfo(root).get("MemAvailable")
    if available is None:
        raise MemoryShortError(f"{root / 'proc/meminfo'} does not report what is available")
    return min([available, *_free_bytes_of_cgroups(root)])


def _resident_bytes(root: Path) -> float:
    fields = _read(root / "proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else math.nan


def _total_bytes(root: Path) -> float:
    """Return the machine's memory or the lowest limit of a cgroup, whichever is less."""
    limits = [
        int(limit)
        for folder in _cgroups(root, "memory")
        for limit_file, _ in MEMORY_FILES
        if (limit := _read(folder / limit_file)).isdigit()
    ]
    return min([_meminfo(root).get("MemTotal", math.inf), *limits])


def _free_bytes_of_cgroups(root: Path) -> Iterator[int]:
    for folder in _cgroups(root, "memory"):
        for names in MEMORY_FILES:
            limit, used = (_read(folder / name) for name in names)
            if limit.isdigit() and used.isdigit():
                yield int(limit) - int(used) + _inactive_file_bytes(folder)


def _inactive_file_bytes(folder: Path) -> int:
    """Return the file cache that the kernel would drop first, which a cgroup counts as used."""
    stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    # Version 1 counts descendants only under the longer name; version 2 always counts them.
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quota, in cores, of each cgroup that has one."""
    for folder in _cgroups(root, "cpu"):
        version_2 = _read(folder / "cpu.max").split()
        version_1 = [_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for limits in (version_2, version_1):
            if len(limits) == 2 and all(limit.isdigit() for limit in limits):
                quota, period = map(int, limits)
                yield quota / period


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of each cgroup that limits this process: its own and all its ancestors.

    Version 2 has one hierarchy, version 1 one for each controller, a hybrid system both. In a
    container /proc/self/cgroup may name the host's path, while the mount's root is the
    container's own cgroup: folders may be missing.
    """
    mount = root / "sys/fs/cgroup"
    hierarchies = dict.fromkeys((mount, mount / "unified", mount / controller), "")
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            hierarchies[mount] = hierarchies[mount / "unified"] = path
        elif controller in controllers.split(","):
            hierarchies[mount / controller] = hierarchies[mount / controllers] = path
    for hierarchy, path in hierarchies.items():
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # outside of the namespace: only the root is visible
            parts = []
        for depth in range(len(parts) + 1):
            yield hierarchy.joinpath(*parts[:depth])


def _meminfo(root: Path) -> dict[str, int]:
    """Return the fields of /proc/meminfo, in bytes."""
    lines = _read(root / "proc/meminfo").splitlines()
    fields = [line.removesuffix(" kB").split(":") for line in lines if line.endswith(" kB")]
    return {name: int(kilobytes) * 1024 for name, kilobytes in fields}


def _read(path: Path) -> str:
    """Return a file's text without white space around it; empty if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
