"""The C library's allocator: how soon a serving process gives memory back."""

import asyncio
import ctypes
import os

# glibc's mallopt(3).
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
# Tensors of a batch, large bodies. Their faults to the system cost batches 2 to 3 % of their time.
MMAP_THRESHOLD_BYTES = 256 * 1024
ARENAS = 2
TRIM_EVERY_SECONDS = 20.0  # for some 2 ms


def give_memory_back() -> None:
    """Have a large buffer return to the system as soon as it is freed; tensors of batches are.

    By default glibc learns to keep them, in as many heaps as there are threads; batches of all
    shapes leave holes in these, and memory grows for hours. Where the environment sets the
    allocator, and without glibc, nothing changes.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_ARENA_MAX, ARENAS)


async def trim_regularly() -> None:
    """Return what has become free between smaller buffers, again and again; with glibc alone."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while malloc_trim:
        await asyncio.sleep(TRIM_EVERY_SECONDS)
        await asyncio.to_thread(malloc_trim, 0)
