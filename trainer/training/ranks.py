"""Which of several processes this is, as torchrun tells; alone, the first."""

import os

import torch


def is_first() -> bool:
    """Tell whether this process writes what a run leaves."""
    return os.environ.get("RANK", "0") == "0"


def own_device(device: str) -> str:
    """Choose this process's GPU where `auto` or `cuda` stands for several.

    >>> own_device("cpu")
    'cpu'
    """
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{local}"
