"""The C library's allocator: how soon a serving process gives memory back."""

import ctypes
import os

# glibc's mallopt(3).
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
MMAP_THRESHOLD_BYTES = 256 * 1024
ARENAS = 2


def give_memory_back() -> None:
    """Have each large buffer return to the system when it is freed; the tensors of a batch are.

    By default glibc learns to keep them, in as many heaps as there are threads; batches of all
    shapes leave holes in these, and memory grows for hours. Where the environment sets the
    allocator, and without glibc, nothing changes.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_ARENA_MAX, ARENAS)
