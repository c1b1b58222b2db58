"""Tuning of the serving process: OpenMP threads, the C allocator, the garbage collector."""

import asyncio
import ctypes
import errno
import gc
import logging
import os
import resource

from service.retrieval.hardware import available_cores
from service.retrieval.mapped_files import release_file_pages

logger = logging.getLogger(__name__)
# Parameters of glibc's mallopt(3).
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
# Large enough for tensors and bodies only: the page faults cost batches 2 to 3 % of their time.
MMAP_THRESHOLD_BYTES = 256 * 1024
ARENAS = 2
TRIM_EVERY_SECONDS = 2.0  # a trim takes some 2 ms
COLLECT_AFTER_OBJECTS = 20_000


def configure_openmp() -> None:
    """Make OpenMP threads sleep between tasks; call this before torch is imported.

    By default they spin for milliseconds, and take the cores from the threads that serve.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (cores := available_cores()) < len(os.sched_getaffinity(0)):  # a container's limit
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def configure_allocator() -> None:
    """Make glibc return large buffers, such as tensors, to the system as soon as they are freed.

    By default glibc raises its threshold and keeps such buffers in one heap per thread. Batches of
    different shapes fragment these heaps, and memory grows for hours. Nothing changes if the
    environment configures the allocator, or without glibc.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_ARENA_MAX, ARENAS)


async def trim_memory_regularly() -> None:
    """Return memory to the system at intervals, as `trim_memory` does."""
    while True:
        await asyncio.sleep(TRIM_EVERY_SECONDS)
        await asyncio.to_thread(trim_memory)


def trim_memory() -> None:
    """Return free memory between smaller buffers (glibc only), and pages of mapped files."""
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)
    release_file_pages()


async def report_exhausted_files(every_seconds: float = 1.0) -> None:
    """Log when the process may open no more files; the event loop drops connections silently."""
    was_exhausted = False
    while True:
        try:
            os.close(os.dup(2))
            is_exhausted = False
        except OSError as error:
            is_exhausted = error.errno in (errno.EMFILE, errno.ENFILE)
        if is_exhausted and not was_exhausted:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            logger.error(
                "no more files can be opened (ulimit -n %d): new connections are dropped; raise "
                "the limit above CLEAR_MAX_CONNECTIONS",
                limit,
            )
        was_exhausted = is_exhausted
        await asyncio.sleep(every_seconds)


def freeze_imported_objects() -> None:
    """Exclude what imports made, about 240,000 objects, from garbage collection.

    A collection after loading takes 3 ms then, not 120 ms.
    """
    gc.freeze()


def freeze_loaded_objects() -> None:
    """Exclude all loaded objects from garbage collection, and collect less often.

    Under load, collections took half of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
