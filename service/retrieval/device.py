"""The device that a name means, if it is there."""

import re

import torch

from service.retrieval.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        DeviceError: the name is unknown or no such device is there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"the device {name} is unknown: name auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {name} is not there (CUDA devices: {torch.cuda.device_count()}): "
            "set CLEAR_DEVICE=auto or cpu, or mend the driver"
        )
    return device
