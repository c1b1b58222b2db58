"""An embedding table read from its safetensors file by mapping: only rows that are used load."""

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from service.retrieval.errors import CheckpointError

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def map_table(paths: tuple[Path, ...], name: str) -> Tensor:
    """Map a tensor of a checkpoint into memory; it must not be written to.

    Args:
        paths: the checkpoint's .safetensors files.
        name: of the tensor, which has two dimensions.

    Returns:
        [V, H], in the precision of the file.

    Raises:
        CheckpointError: it is in none of them, or not readable.
    """
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:  # holds the header against the file
                if name in file.keys():  # noqa: SIM118  not a dict
                    return _map(path, name)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): restore it") from None
    raise CheckpointError(f"{paths[0].parent} has weights without {name}: restore them")


def _map(path: Path, name: str) -> Tensor:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_bytes))[name]
    if entry["dtype"] not in TYPES:
        raise CheckpointError(f"{path} has {name} in {entry['dtype']}: set CLEAR_CPU_ENGINE=torch")
    start, stop = (8 + header_bytes + offset for offset in entry["data_offsets"])
    content = torch.from_file(str(path), shared=False, size=stop, dtype=torch.uint8)
    table = content[start:].view(TYPES[entry["dtype"]]).view(entry["shape"])
    assert math.prod(entry["shape"]) * table.element_size() == stop - start
    return table
