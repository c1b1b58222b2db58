"""The installed faiss library: its version, its GPUs, and its error messages."""

import re
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from service.retrieval.errors import DeviceError

# Untyped: faiss ships type hints of its CPU build's C++ layer only.
FAISS: Any = faiss
VERSION: str = faiss.__version__
# The C++ function, file, line and failed check that precede FAISS's own words.
LOCATION = re.compile(r"^Error in .* at \S+:\d+: (?:Error: '.*' failed: )?")
# Without cuVS FAISS quotes cudaMalloc; with cuVS it says as little as "memory allocation error".
MEMORY_WORDS = ("out of memory", "memory allocation error", "bad_alloc")

Queries = NDArray[np.float32]


def num_gpus() -> int:
    """Return how many GPUs the installed faiss can use; 0 for the CPU build."""
    return int(FAISS.get_num_gpus()) if hasattr(FAISS, "StandardGpuResources") else 0


def has_cuvs() -> bool:
    """Return whether the installed faiss was built with cuVS."""
    return "CUVS" in FAISS.get_compile_options()


def gpu_number(device: str) -> int:
    """Return the number of the GPU that `cuda` or `cuda:N` names.

    Raises:
        DeviceError: the installed faiss cannot use that GPU.
    """
    number, found = int(device.partition(":")[2] or 0), num_gpus()
    if number >= found:
        # FAISS, but not PyTorch, counts no GPU where the driver is older than its CUDA.
        remedy = (
            "check `nvidia-smi` (the lock's faiss needs CUDA 13, a driver from 580 on)"
            if hasattr(FAISS, "StandardGpuResources")
            else "install the extra `gpu` (faiss-gpu-cuvs) instead of `cpu`"
        )
        raise DeviceError(
            f"faiss {VERSION} serves {found} GPUs, the index is asked for on GPU {number}: "
            f"{remedy}, or set CLEAR_DEVICE=cpu"
        )
    return number


def error_reason(error: RuntimeError) -> str:
    """Return what went wrong, without the C++ function, file and line of FAISS's message."""
    return LOCATION.sub("", str(error).splitlines()[0])


def is_out_of_memory(error: Exception) -> bool:
    """Return whether FAISS was refused memory; it raises MemoryError for what cuVS asks for."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(word in words for word in MEMORY_WORDS)
