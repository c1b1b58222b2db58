"""An embedding table mapped from its safetensors file: only the rows that are used load."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from service.retrieval.errors import CheckpointError

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
COMPARED_BYTES = 1 << 20


@dataclass(frozen=True)
class TablePlace:
    """A tensor's place in a safetensors file: byte range, type and shape."""

    path: Path
    start: int
    stop: int
    type_name: str
    shape: tuple[int, ...]

    def equals(self, other: "TablePlace") -> bool:
        """Return whether two tables are equal; compares in blocks, so that memory holds neither."""
        if self == other:
            return True
        if (self.type_name, self.shape) != (other.type_name, other.shape):
            return False
        with self.path.open("rb") as ours, other.path.open("rb") as theirs:
            ours.seek(self.start)
            theirs.seek(other.start)
            for start in range(self.start, self.stop, COMPARED_BYTES):
                num_bytes = min(COMPARED_BYTES, self.stop - start)
                if ours.read(num_bytes) != theirs.read(num_bytes):
                    return False
        return True


def find_table(paths: tuple[Path, ...], name: str) -> TablePlace:
    """Return the place of a checkpoint's tensor.

    Args:
        paths: the checkpoint's .safetensors files.
        name: name of the tensor, which has two dimensions.

    Raises:
        CheckpointError: no file has the tensor, or one cannot be read.
    """
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:  # verifies the header against the file
                if name in file.keys():  # noqa: SIM118  not a dict
                    return _place(path, name)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): restore it from a copy"
            ) from None
    raise CheckpointError(f"{paths[0].parent} has weights without {name}: restore them from a copy")


def map_table(place: TablePlace) -> Tensor:
    """Map a table into memory, [V, H], in the file's precision; callers must not write to it."""
    content = np.memmap(place.path, np.uint8, "r")[place.start : place.stop]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it cannot be written to
        table = torch.from_numpy(content)
    table = table.view(TYPES[place.type_name]).view(place.shape)
    assert math.prod(place.shape) * table.element_size() == place.stop - place.start
    return table


def _place(path: Path, name: str) -> TablePlace:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_bytes))[name]
    if entry["dtype"] not in TYPES:
        raise CheckpointError(f"{path} has {name} in {entry['dtype']}: set CLEAR_CPU_ENGINE=torch")
    start, stop = (8 + header_bytes + offset for offset in entry["data_offsets"])
    return TablePlace(path, start, stop, entry["dtype"], tuple(entry["shape"]))
