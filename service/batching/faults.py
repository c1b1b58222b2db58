"""What a failed batch means: too much memory, a broken device, or a bad text."""

from typing import Literal

import torch

Fault = Literal["memory", "device", "text"]
MEMORY_WORDS = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed")
DEVICE_WORDS = ("cuda error", "cublas", "cudnn error", "device-side assert", "nvml")


def classify(error: Exception) -> Fault:
    """Tell what an exception of a batch means.

    A CUDA context is unusable after any error but a refused allocation.
    """
    words = str(error).lower()
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return "memory"
    if any(word in words for word in MEMORY_WORDS):
        return "memory"
    if isinstance(error, torch.AcceleratorError) or any(word in words for word in DEVICE_WORDS):
        return "device"
    return "text"
