"""Adapters that other programs trained with the library `peft`: LoRA that changes both sides.

adapter_config.json         the configuration; it names the base
adapter_model.safetensors   A and B of each linear module, and whole parameters (`modules_to_save`)

One with an `adapter.json` is an adapter of this project's own, which changes the query side alone.
The files are not trusted.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from service.retrieval.checkpoint.adapter import PEFT_CONFIG, PEFT_WEIGHTS
from service.retrieval.checkpoint.lora import (
    Pairs,
    add_product,
    target_violation,
)
from service.retrieval.checkpoint.peft.config import (
    PeftConfig,
    is_peft,
    merge_command,
    read_peft_config,
)
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage import artifact, checksums

logger = logging.getLogger(__name__)
PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# What an encoder does not use: transformers' own pooler, which no pooling of token embeddings
# reads, heads of other tasks, and the decoder beside T5's encoder.
POOLER, DECODER = "pooler", "decoder"
HEADS = ("classifier", "cls", "head", "lm_head", "pre_classifier", "qa_outputs", "score")
DAMAGED = "the file is damaged: restore it from a copy, or train the adapter again"
TYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, eq=False)
class PeftAdapter:
    """A checked adapter: pairs by module, the factor of each, and whole parameters by name."""

    weights: Path
    config: PeftConfig
    pairs: Pairs
    saved: dict[str, Tensor]
    sha256: dict[str, str]


def read_peft_adapter(directory: Path) -> PeftAdapter:
    """Read an adapter and check that its files belong together.

    Raises:
        CheckpointError: naming the file, the tensor or field that is wrong, and how to fix it.
    """
    config = read_peft_config(directory)
    path = directory / PEFT_WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing beside {PEFT_CONFIG}; pickled adapters are never read: save the "
            "adapter again with peft's save_pretrained, which writes safetensors"
        )
    artifact.refuse_pointer(path, CheckpointError)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({quoted(str(error))}): restore it from a copy"
        ) from None
    fix = f"merge it into its base by `{merge_command(directory, config.model_dump())}`"
    pairs, saved = _split_tensors(tensors, config, path, fix)
    names = (PEFT_CONFIG, PEFT_WEIGHTS)
    hashes = {name: checksums.sha256_of(directory / name) for name in names}
    return PeftAdapter(path, config, pairs, saved, hashes)


def refuse_unmerged(
    folder: Path | None, error: type[Exception] = CheckpointError, place: str = ""
) -> None:
    """Refuse an adapter of both sides where weights are trained or written: it is in no file.

    Args:
        folder: of an encoder's adapter, if it has one.
        error: the class of the error raised.
        place: stands before the message, such as the field that names the encoder.

    Raises:
        Exception: of the class `error`, with the command that merges it.
    """
    if folder and is_peft(folder):
        config = read_peft_config(folder).model_dump()
        raise error(
            f"{place}{folder} holds an adapter of peft: merge it into its base first, by "
            f"`{merge_command(folder, config)}`"
        )


def merge_peft(model: nn.Module, adapter: PeftAdapter) -> None:
    """Add each pair's product to its module's weights, and replace the saved parameters.

    What changes no part of an encoder is left out, and told in one line.

    Args:
        model: the base in fp32.
        adapter: of that base.

    Raises:
        CheckpointError: naming the tensor that does not fit the model.
    """
    parameters = dict(model.named_parameters())
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    unused = set()
    for name, (lora_a, lora_b) in adapter.pairs.items():
        own = name if f"{name}.weight" in parameters else name.removeprefix(prefix)
        if f"{own}.weight" not in parameters and (part := _unused_part(own, model)):
            unused.add(part)
            continue
        add_product(model, own, lora_a, lora_b, adapter.config.scale_of(name), adapter.weights)
    for name, tensor in adapter.saved.items():
        own = name if name in parameters else name.removeprefix(prefix)
        if (part := _unused_part(own, model)) and (own not in parameters or part == POOLER):
            unused.add(part)
            continue
        if own not in parameters or parameters[own].shape != tensor.shape:
            raise CheckpointError(
                f"{adapter.weights}: {quoted(name)} of the shape {list(tensor.shape)} is not a "
                "parameter of the base encoder: use the adapter with the base that it was trained "
                "on"
            )
        parameters[own].data = tensor.float()
    if others := sorted(unused - {POOLER}):
        logger.warning(
            "%s: an encoder does not use %s: left out", adapter.weights, " and ".join(others)
        )


def _unused_part(name: str, model: nn.Module) -> str:
    """Return the part of another model that a tensor belongs to, or an empty string."""
    part = name.partition(".")[0]
    is_decoder = part == DECODER and not hasattr(model, DECODER)
    return part if part in (POOLER, *HEADS) or is_decoder else ""


def _split_tensors(
    tensors: dict[str, Tensor], config: PeftConfig, path: Path, fix: str
) -> tuple[Pairs, dict[str, Tensor]]:
    """Return the pairs by module and the saved parameters by name."""
    pairs: Pairs = {}
    saved: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module = name.removeprefix(PREFIX).removesuffix(A)
        if damage := _damage(name, tensor, tensors, config):
            raise CheckpointError(f"{path}: {quoted(name)} {damage}: {DAMAGED}")
        if violation := _violation(name, tensor, config):
            raise CheckpointError(f"{path}: {quoted(name)} {violation}: {fix}")
        if name.endswith(A):
            pairs[module] = (tensor, tensors[f"{PREFIX}{module}{B}"])
        elif not name.endswith(B):
            saved[module] = tensor
    if not pairs:
        raise CheckpointError(f"{path} holds no pair of LoRA's matrices: {DAMAGED}")
    if isinstance(config.target_modules, list) and (
        found := target_violation(config.target_modules, pairs)
    ):
        raise CheckpointError(f"{path.parent / PEFT_CONFIG}: `target_modules` {found}: {fix}")
    return pairs, saved


def _damage(
    name: str, tensor: Tensor, tensors: dict[str, Tensor], config: PeftConfig
) -> str | None:
    """Return why no program could use a tensor, or None."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
        return "has a value that is not a finite number"
    own = name.removeprefix(PREFIX)
    for axis, (end, other) in enumerate(((A, B), (B, A))):
        module = own.removesuffix(end)
        if not own.endswith(end):
            continue
        if name.removesuffix(end) + other not in tensors:
            return f"has no matrix {other.removesuffix('.weight')[1:]}"
        if tensor.ndim != 2 or tensor.shape[axis] != config.rank_of(module):
            sizes = f"{config.rank_of(module)} {'columns' if axis else 'rows'}"
            return f"has the shape {list(tensor.shape)}, not {sizes}, the rank in {PEFT_CONFIG}"
    return None


def _violation(name: str, tensor: Tensor, config: PeftConfig) -> str | None:
    """Return why a tensor is not merged here, or None."""
    if not name.startswith(PREFIX):
        return f"is not named {PREFIX}<module>"
    if tensor.dtype not in TYPES:
        return f"is {tensor.dtype}, not fp16, bf16 or fp32"
    own = name.removeprefix(PREFIX)
    # A name may be that of a parent, such as `pooler` of `pooler.dense.weight`.
    is_saved = any(f".{module}." in f".{own}" for module in config.modules_to_save or ())
    if own.endswith((A, B)) or is_saved:
        return None
    return "is neither A or B of a module nor one of `modules_to_save`"
