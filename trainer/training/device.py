"""The device of a training process: one of its own, also where the machine has several GPUs."""

import os

import torch

from trainer.errors import ConfigError


def num_processes() -> int:
    """Return how many processes train together, as `torchrun` says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device(device: str) -> str:
    """Return the device of this process; under `torchrun` its own GPU.

    transformers' trainer takes the first GPU, and all visible ones if there are several, whatever
    the encoder was loaded on: a device that it would not take is refused.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: several GPUs are visible without `torchrun`, or `torchrun` is given one GPU
            for all processes.

    >>> local_device("cpu")
    'cpu'
    """
    if device == "cpu" or not torch.cuda.is_available():
        return device
    local, count = os.environ.get("LOCAL_RANK"), torch.cuda.device_count()
    index = device.partition(":")[2]
    if local is not None:
        if index:
            raise ConfigError(
                f"--device {device}: each process of torchrun has a GPU of its own: leave it out"
            )
        return f"cuda:{local}"
    if count > 1:
        raise ConfigError(
            f"--device {device}: {count} GPUs are visible, and one process trains on one: set "
            f"CUDA_VISIBLE_DEVICES={index or 0} (without a number in --device), or use "
            f"torchrun --nproc-per-node {count} --no-python clear-trainer train"
        )
    return device
