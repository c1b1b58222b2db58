"""Reads and writes the folder of an adapter.

adapter_config.json         PEFT's configuration: rank `r`, `lora_alpha`, modules, base
adapter_model.safetensors   PEFT's tensors, a pair for each linear module:
                            `base_model.model.<module>.lora_A.weight` [R, I] and
                            `base_model.model.<module>.lora_B.weight` [O, R]
adapter.json                what PEFT has no field for: side, fingerprints, training record

R rank, I and O a module's inputs and outputs. The library `peft` reads the first two files. The
older layout is read, too, but not written: `adapter.json` with `rank` and `scale`, and
`adapter.safetensors` with `<module>.lora_a` and `<module>.lora_b`. Files are not trusted.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from service.retrieval.checkpoint.adapter import (
    DESCRIPTION,
    OLD_WEIGHTS,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    Adapter,
    AdapterDescription,
    OldAdapterDescription,
    OwnPeftConfig,
)
from service.retrieval.checkpoint.lora import Pairs
from service.retrieval.defaults import BUNDLED_BASE
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage import artifact, checksums
from service.retrieval.storage.hub import split_hub_name
from service.retrieval.storage.schema import parse_document

OLD_FORMAT_VERSION, FORMAT_VERSION = 1, 2
TYPES = (torch.float16, torch.bfloat16, torch.float32)
RESTORE = "restore it from a copy or train it again"


@dataclass(frozen=True)
class TensorNames:
    """How a layout names the tensors of a module: a prefix, and a suffix for A and for B."""

    prefix: str
    a: str
    b: str

    def of(self, module: str) -> tuple[str, str]:
        """Return the names of A and B of a module."""
        return f"{self.prefix}{module}{self.a}", f"{self.prefix}{module}{self.b}"

    def module_of(self, name: str) -> str:
        """Return the module that a tensor's name belongs to."""
        return name.removeprefix(self.prefix).removesuffix(self.a).removesuffix(self.b)


PEFT_NAMES = TensorNames("base_model.model.", ".lora_A.weight", ".lora_B.weight")
OLD_NAMES = TensorNames("", ".lora_a", ".lora_b")


def write_adapter(
    directory: Path,
    pairs: Pairs,
    scale: float,
    *,
    base: str | None,
    base_fingerprint: str,
    passage_fingerprint: str,
    **facts: object,
) -> None:
    """Write an adapter's three files.

    Args:
        directory: a folder that exists.
        pairs: A [R, I] and B [O, R] by module, all of one rank; saved in their precision.
        scale: the factor of B A.
        base: the name of the encoder that the adapter changes; None is the bundled one.
        base_fingerprint: of the base's query side.
        passage_fingerprint: of the passages that the adapted queries search.
        facts: further entries of `adapter.json`: `name`, `license`, the training record.
    """
    tensors: dict[str, Tensor] = {}
    for module, pair in pairs.items():
        tensors |= {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in zip(PEFT_NAMES.of(module), pair, strict=True)
        }
    save_file(tensors, directory / PEFT_WEIGHTS, metadata={"format": "pt"})
    rank = next(iter(pairs.values()))[0].shape[0]
    config = _peft_config(sorted(pairs), rank, scale, base or BUNDLED_BASE)
    (directory / PEFT_CONFIG).write_bytes(artifact.canonical_json(config))
    description = {
        "format_version": FORMAT_VERSION,
        "side": "query",
        **({"base": base} if base else {}),
        "base_fingerprint": base_fingerprint,
        "passage_fingerprint": passage_fingerprint,
        "weights_sha256": checksums.sha256_of(directory / PEFT_WEIGHTS),
        **facts,
    }
    (directory / DESCRIPTION).write_bytes(artifact.canonical_json(description))


def read_adapter(directory: Path) -> Adapter:
    """Read an adapter of either layout and check that its files belong together.

    Raises:
        CheckpointError: naming the file, the field or tensor that is wrong, and how to fix it.
    """
    path = directory / DESCRIPTION
    content = artifact.read_json_object(path, CheckpointError)
    version = content.get("format_version")
    if version == OLD_FORMAT_VERSION:
        old = parse_document(OldAdapterDescription, content, path, CheckpointError, RESTORE)
        return _read_weights(directory / OLD_WEIGHTS, old, old.rank, old.scale, OLD_NAMES)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: `format_version` is {quoted(version)}, this program reads versions "
            f"{OLD_FORMAT_VERSION} and {FORMAT_VERSION}: use a newer program"
        )
    description = parse_document(AdapterDescription, content, path, CheckpointError, RESTORE)
    config_path = directory / PEFT_CONFIG
    content = artifact.read_json_object(config_path, CheckpointError)
    config = parse_document(OwnPeftConfig, content, config_path, CheckpointError, RESTORE)
    weights = directory / PEFT_WEIGHTS
    adapter = _read_weights(weights, description, config.r, config.scale, PEFT_NAMES)
    if violation := config.target_violation(adapter.pairs):
        raise CheckpointError(f"{config_path}: `target_modules` {violation}: {RESTORE}")
    return adapter


def _peft_config(modules: list[str], rank: int, scale: float, base: str) -> dict[str, object]:
    name, revision = split_hub_name(base)
    alpha = scale * rank
    return {
        "base_model_name_or_path": name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "revision": revision,
        "target_modules": modules,
        "task_type": "FEATURE_EXTRACTION",
        "use_dora": False,
        "use_rslora": False,
    }


def _read_weights(
    path: Path, description: AdapterDescription, rank: int, scale: float, names: TensorNames
) -> Adapter:
    try:
        sha256 = checksums.sha256_of(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({quoted(str(error))}): {RESTORE}") from None
    if (description.weights_sha256 or sha256) != sha256:
        raise CheckpointError(
            f"{path} was altered (its sha256 is not `weights_sha256` of "
            f"{path.parent / DESCRIPTION}): {RESTORE}"
        )
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors: {RESTORE}")
    for name in tensors:
        if violation := _tensor_violation(name, tensors, rank, names):
            raise CheckpointError(f"{path}: {quoted(name)} {violation}: {RESTORE}")
    pairs: Pairs = {}
    for module in sorted(map(names.module_of, tensors)):
        a, b = names.of(module)
        pairs[module] = (tensors[a], tensors[b])
    return Adapter(path, description, scale, pairs, sha256)


def _tensor_violation(
    name: str, tensors: dict[str, Tensor], rank: int, names: TensorNames
) -> str | None:
    """Return what is wrong with a tensor, or None."""
    tensor, pair = tensors[name], names.of(names.module_of(name))
    if name not in pair:
        return f"is not named <module>{names.a} or <module>{names.b}"
    axis = pair.index(name)
    if pair[1 - axis] not in tensors:
        return f"has no {quoted(pair[1 - axis])} beside it"
    if tensor.ndim != 2 or tensor.shape[axis] != rank:
        expected = "[rank, inputs]" if axis == 0 else "[outputs, rank]"
        return f"has the shape {list(tensor.shape)}, not {expected} with rank {rank}"
    if tensor.dtype not in TYPES:
        return f"is {tensor.dtype}, not fp16, bf16 or fp32"
    if not bool(torch.isfinite(tensor).all()):
        return "has a value that is not a finite number"
    return None
