"""A query-side adapter: low-rank changes of a base encoder's weights, in a folder of two files.

adapter.json          scale, rank, side, the fingerprints it was trained for, its training record
adapter.safetensors   `<module>.lora_a` [R, I] and `<module>.lora_b` [O, R], a pair a linear module

R rank, I and O a module's inputs and outputs. Whoever wrote the files is not trusted.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact

DESCRIPTION, WEIGHTS = "adapter.json", "adapter.safetensors"
ADAPTER_FILES = (DESCRIPTION, WEIGHTS)
FORMAT_VERSION = 1
TYPES = (torch.float16, torch.bfloat16, torch.float32)
RESTORE = "restore it from a copy or train it again"


@dataclass(frozen=True, eq=False)
class Adapter:
    """A checked adapter; `pairs` holds lora_a and lora_b by the module that they change."""

    directory: Path
    description: dict[str, Any]
    pairs: dict[str, tuple[Tensor, Tensor]]
    weights_sha256: str

    @property
    def scale(self) -> float:
        """Tell by what the product of a pair is multiplied."""
        return float(self.description["scale"])

    @property
    def parameters(self) -> frozenset[str]:
        """Name the base's parameters that merging changes."""
        return frozenset(f"{name}.weight" for name in self.pairs)

    @property
    def base_fingerprint(self) -> str:
        """Tell of which encoder's weights these are changes."""
        return str(self.description["base_fingerprint"])


def is_adapter(directory: Path) -> bool:
    """Tell whether a folder holds an adapter."""
    return (directory / DESCRIPTION).is_file()


def read_adapter(directory: Path) -> Adapter:
    """Read an adapter's two files and hold them against each other.

    Raises:
        CheckpointError: naming the file, the field or tensor that is wrong, and how to mend it.
    """
    path = directory / DESCRIPTION
    description = artifact.read_json_object(path, CheckpointError)
    _check_description(path, description)
    weights = directory / WEIGHTS
    try:
        weights_sha256 = artifact.sha256_of(weights)
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} cannot be read ({error}): {RESTORE}") from None
    expected = description.get("weights_sha256", weights_sha256)
    if expected != weights_sha256:
        raise CheckpointError(
            f"{weights} was altered (its sha256 is not `weights_sha256` of {path}): {RESTORE}"
        )
    return Adapter(
        directory, description, _pairs(weights, tensors, description["rank"]), weights_sha256
    )


def check_base(adapter: Adapter, fingerprint: str, base: str) -> None:
    """Refuse a base that the adapter was not trained on.

    Raises:
        CheckpointError: naming both fingerprints.
    """
    for field in ("base_fingerprint", "passage_fingerprint"):
        found = str(adapter.description[field])
        if found != fingerprint:
            raise CheckpointError(
                f"{adapter.directory / DESCRIPTION}: `{field}` is {found[:16]}, the encoder "
                f"{base} has {fingerprint[:16]}: name the base that it was trained on as `base`, "
                "or train it again"
            )


def merge_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Add each pair's product to its module's weights: W + scale * B A.

    The base's tensors stay as they are; modules without a pair keep them.

    Args:
        model: the base in fp32; `adapter` names its modules.
        adapter: of that base.

    Raises:
        CheckpointError: naming the tensor that does not fit the model.

    Source: Hu et al. 2021 (arXiv 2106.09685), equation 3.
    """
    path = adapter.directory / WEIGHTS
    modules = dict(model.named_modules())
    for name, (lora_a, lora_b) in adapter.pairs.items():
        module = modules.get(name)
        if not isinstance(module, nn.Linear):
            raise CheckpointError(
                f"{path}: {name} is no linear module of the base encoder: use the adapter with "
                "the base that it was trained on"
            )
        if (lora_b.shape[0], lora_a.shape[1]) != tuple(module.weight.shape):
            raise CheckpointError(
                f"{path}: {name}.lora_b times {name}.lora_a is "
                f"{[lora_b.shape[0], lora_a.shape[1]]}, the base's weights are "
                f"{list(module.weight.shape)}: use the adapter with the base it was trained on"
            )
        merged = module.weight.detach() + adapter.scale * (lora_b.float() @ lora_a.float())
        if not bool(torch.isfinite(merged).all()):
            raise CheckpointError(f"{path}: {name} makes weights that are no finite numbers")
        module.weight = nn.Parameter(merged, requires_grad=False)


def _check_description(path: Path, description: dict[str, Any]) -> None:
    def refuse(field: str, reason: str) -> None:
        raise CheckpointError(f"{path}: `{field}` {reason}: {RESTORE}")

    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: `format_version` is {version}, this program reads version "
            f"{FORMAT_VERSION}: use a newer program"
        )
    if description.get("side") != "query":
        refuse("side", "is not `query`, the one side that an adapter may change")
    rank, scale = description.get("rank"), description.get("scale")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        refuse("rank", "is not a whole number above 0")
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not abs(scale or 0) <= sys.float_info.max:  # NaN is refused, too
        refuse("scale", "is not a finite number")
    for field in ("base_fingerprint", "passage_fingerprint"):
        if not isinstance(description.get(field), str) or not description[field]:
            refuse(field, "is missing, or no text")


def _pairs(path: Path, tensors: dict[str, Tensor], rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    def refuse(name: str, reason: str) -> None:
        raise CheckpointError(f"{path}: {name} {reason}: {RESTORE}")

    if not tensors:
        raise CheckpointError(f"{path} holds no tensors: {RESTORE}")
    for name, tensor in tensors.items():
        if not name.endswith((".lora_a", ".lora_b")):
            refuse(name, "is neither a `.lora_a` nor a `.lora_b`")
        partner = name[:-1] + ("b" if name.endswith("a") else "a")
        if partner not in tensors:
            refuse(name, f"has no {partner.rpartition('.')[2]} beside it")
        axis = 0 if name.endswith("a") else 1
        if tensor.ndim != 2 or tensor.shape[axis] != rank:
            of_rank = "[rank, inputs]" if axis == 0 else "[outputs, rank]"
            refuse(name, f"has the shape {list(tensor.shape)}, not {of_rank} with rank {rank}")
        if tensor.dtype not in TYPES:
            refuse(name, f"is {tensor.dtype}, not fp16, bf16 or fp32")
        if not bool(torch.isfinite(tensor).all()):
            refuse(name, "has a value that is no finite number")
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    return {name: (tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]) for name in modules}
