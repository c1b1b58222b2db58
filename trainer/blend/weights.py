"""Interpolation between the weights of a base and a tuned encoder, by a share from 0 to 1.

The scale of an adapter is multiplied by the share; full weights are W + share (W' - W).
Source: Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from service.retrieval.checkpoint.adapter_files import write_adapter
from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.peft.adapter import refuse_unmerged
from service.retrieval.checkpoint.writer import with_other_weights, write_checkpoint
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError
from trainer.errors import DataError, OutputError


@dataclass(frozen=True)
class Pair:
    """A base encoder and the encoder that was trained from it."""

    base: Checkpoint
    tuned: Checkpoint

    @property
    def has_adapter(self) -> bool:
        """Return whether training wrote an adapter instead of full weights."""
        return self.tuned.query.adapter is not None

    @property
    def kind(self) -> str:
        """Return the folder name of a blend, which is the one that training uses."""
        return "adapter" if self.has_adapter else "encoder"

    @property
    def is_query_side(self) -> bool:
        """Return whether the tuned encoder encodes only queries, and the base passages."""
        return self.has_adapter or self.tuned.trained_for is not None


def open_pair(base_name: str, tuned_name: str, cache: Path) -> Pair:
    """Open a base and a tuned encoder; check that they belong together.

    Raises:
        CheckpointError: one of them cannot be used.
        DataError: the tuned encoder cannot come from the base.
    """
    base, tuned = (open_checkpoint(name, cache) for name in (base_name, tuned_name))
    for each in (base, tuned):
        refuse_unmerged(each.peft_folder)
    if base.query is not base.passage:
        raise DataError(f"the base {base_name} has two sides: name the encoder without its adapter")
    pair, own = Pair(base, tuned), base.own_passage_fingerprint
    if not pair.has_adapter and tuned.query is not tuned.passage:
        raise DataError(
            f"{tuned_name} has two sides: blend the query encoder before it is published"
        )
    if pair.is_query_side and tuned.passage_fingerprint != own:
        raise DataError(
            f"{tuned_name} was trained for passages of the fingerprint "
            f"{tuned.passage_fingerprint[:16]}, the base {base_name} has {own[:16]}: "
            "name the base that it was trained on"
        )
    if not pair.has_adapter:
        _check_alike(base, tuned)
    return pair


def _check_alike(base: Checkpoint, tuned: Checkpoint) -> None:
    for field, ours, theirs in (
        ("pooling", base.query.pooling, tuned.query.pooling),
        ("prompts", base.prompts.texts, tuned.prompts.texts),
        ("truncate_dim", base.query.truncate_dim, tuned.query.truncate_dim),
        ("list of modules after the pooling", _modules(base), _modules(tuned)),
    ):
        if ours != theirs:
            raise DataError(
                f"{tuned.directory} has another {field} than the base {base.directory}: their "
                "weights cannot be interpolated"
            )


def _modules(checkpoint: Checkpoint) -> list[object]:
    return [(module.kind, module.config) for module in checkpoint.query.head]


def write_blend(pair: Pair, share: float, directory: Path, **facts: object) -> None:
    """Write the blend of a share: an adapter, or a checkpoint with interpolated weights.

    Args:
        pair: of base and tuned encoder.
        share: 0 is the base, 1 the tuned encoder.
        directory: a new folder.
        facts: additional entries of the manifest, or of `adapter.json`.

    Raises:
        CheckpointError: the weights cannot be read, or differ in architecture.
        OutputError: the folder cannot be written.
    """
    facts["blend"] = {"share": share, "base_fingerprint": pair.base.query_fingerprint}
    try:
        directory.mkdir(parents=True)
        if pair.has_adapter:
            _write_adapter(pair, share, directory, facts)
        else:
            _write_checkpoint(pair, share, directory, facts)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name a new folder"
        ) from None


def _write_adapter(pair: Pair, share: float, directory: Path, facts: dict[str, Any]) -> None:
    adapter = pair.tuned.query.adapter
    assert adapter is not None
    description = adapter.description
    write_adapter(
        directory,
        adapter.pairs,
        adapter.scale * share,
        base=description.base,
        base_fingerprint=description.base_fingerprint,
        passage_fingerprint=description.passage_fingerprint,
        **(description.facts | facts),
    )


def _write_checkpoint(pair: Pair, share: float, directory: Path, facts: dict[str, Any]) -> None:
    # Loaded, as files may name the same weights differently, or hold tied ones once or twice.
    base, tuned = (load_model(each.query).state_dict() for each in (pair.base, pair.tuned))
    weights = interpolate(base, tuned, share)
    files = with_other_weights(pair.tuned.directory, pair.tuned.query, weights)
    for module, base_module in zip(pair.tuned.query.head, pair.base.query.head, strict=True):
        if module.weights and base_module.weights:
            name = module.weights.relative_to(pair.tuned.directory).as_posix()
            ends = (_read(base_module.weights), _read(module.weights))
            files[name] = interpolate(*ends, share)
    write_checkpoint(directory, files, **(pair.tuned.facts | facts))


def interpolate(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Interpolate weights; shares 0 and 1 give exactly the base and the tuned weights.

    Tensors of integers are taken from the tuned encoder.

    Args:
        base: weights by name, at share 0.
        tuned: weights by name, at share 1.
        share: from 0 to 1.

    Raises:
        CheckpointError: a tensor is missing on one side, or its shapes differ.

    >>> interpolate({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 0.25)["w"].tolist()
    [1.5]
    """
    blended: dict[str, Tensor] = {}
    for name in sorted(base.keys() | tuned.keys()):
        if name.startswith("pooler."):  # unused, and not every tool saves it
            if name in tuned:
                blended[name] = tuned[name]
            continue
        if name not in base or name not in tuned or base[name].shape != tuned[name].shape:
            raise CheckpointError(
                f"the weight {name} is missing in one of the encoders, or has another shape: name "
                "the base that the tuned encoder was trained from"
            )
        is_float = tuned[name].is_floating_point()
        start, end = base[name].float(), tuned[name].float()
        mixed = torch.lerp(start, end, share).to(tuned[name].dtype)
        blended[name] = mixed if is_float else tuned[name]
    return blended


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): restore it") from None
