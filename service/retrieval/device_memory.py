"""How much memory the device has, and how much is taken."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import torch

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Memory(NamedTuple):
    """Of a GPU, everything on it; of a CPU, what this process takes of what it may take."""

    used_bytes: float
    total_bytes: float


def read_memory(device: torch.device) -> Memory:
    """Ask the device; not a number where it does not answer any more."""
    if device.type != "cuda":
        return Memory(_resident_bytes(), _limit_bytes())
    try:
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    except RuntimeError:  # a broken device must not take the metrics with it
        return Memory(math.nan, math.nan)
    return Memory(total_bytes - free_bytes, total_bytes)


def _resident_bytes() -> float:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _limit_bytes() -> float:
    """Tell the container's limit where it has one, else the machine's memory."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CGROUP_LIMITS:
        if path.is_file() and (content := path.read_text().strip()).isdigit():
            limits.append(int(content))
    return min(limits)
