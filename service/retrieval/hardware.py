"""How many cores a process may use: a container's share is less than the machine's cores."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Count the cores of the process, within the container's limit where it has one.

    More threads than that would be stopped for most of each tenth of a second.
    """
    cores = len(os.sched_getaffinity(0))
    quota, _, period = QUOTA.read_text().strip().partition(" ") if QUOTA.is_file() else ("", "", "")
    if not (quota.isdigit() and period.isdigit()):
        return cores
    return max(1, min(cores, math.ceil(int(quota) / int(period))))
