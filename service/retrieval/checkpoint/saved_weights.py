"""The file of a transformer's weights, as transformers saves and reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from service.retrieval.checkpoint.layout import CheckpointLayout

StateDict = Mapping[str, Tensor]
DTYPE_FIELDS = ("dtype", "torch_dtype")


def save_weights(path: Path, state: StateDict) -> None:
    """Save a state dict as safetensors, with the metadata that transformers asks for.

    Tied weights, which are one tensor with several names, are saved by the first of them.
    """
    tensors: dict[str, Tensor] = {}
    saved = set()
    for name, tensor in state.items():
        view = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or view not in saved:
            tensors[name] = tensor.detach().cpu().contiguous()
        saved.add(view)
    save_file(tensors, path, metadata={"format": "pt"})


def without_new_pooler(state: StateDict, layout: CheckpointLayout) -> StateDict:
    """Leave out a pooler that no file holds: transformers initializes it at random when loading."""
    for path in layout.weights:
        with safe_open(path, "pt") as file:
            if any("pooler." in name for name in file.keys()):  # noqa: SIM118  not a mapping
                return state
    return {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}


def config_of_weights(state: StateDict, layout: CheckpointLayout) -> dict[str, Any]:
    """Return `config.json` for other weights: transformers rounds them to the type that it names.

    Otherwise the small changes of training would be lost where the base is saved in half precision.
    """
    types = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(types) != 1:
        return layout.config
    name = str(types.pop()).removeprefix("torch.")
    stated = [field for field in DTYPE_FIELDS if layout.config.get(field) is not None]
    return layout.config | dict.fromkeys(stated, name)
