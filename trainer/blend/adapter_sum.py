"""The sum of adapters of one encoder, each times a share: one adapter of the summed rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from service.retrieval.checkpoint.adapter import Adapter
from service.retrieval.checkpoint.adapter_files import read_adapter, write_adapter
from service.retrieval.checkpoint.lora import Pairs
from trainer.errors import DataError, OutputError


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter's folder, and the share of its change of the weights."""

    folder: Path
    share: float


def write_sum(parts: Sequence[Part], directory: Path) -> None:
    """Write the sum of adapters: the A of each module stacked, the B side by side.

    Args:
        parts: at least two, trained on the same base for the same passages.
        directory: a new folder.

    Raises:
        CheckpointError: an adapter cannot be read.
        DataError: the adapters do not belong together.
        OutputError: the folder cannot be written.
    """
    adapters = [read_adapter(part.folder) for part in parts]
    first = adapters[0].description
    for part, adapter in zip(parts[1:], adapters[1:], strict=True):
        if violation := _difference(adapters[0], adapter):
            raise DataError(
                f"{part.folder} and {parts[0].folder} have different {violation}: name adapters "
                "of one base encoder"
            )
    summands = [
        {
            **adapter.description.facts.get("training", {}),
            "share": part.share,
            "weights_sha256": adapter.weights_sha256,
        }
        for part, adapter in zip(parts, adapters, strict=True)
    ]
    try:
        directory.mkdir(parents=True)
        write_adapter(
            directory,
            sum_pairs(adapters, [part.share for part in parts]),
            1.0,
            base=first.base,
            base_fingerprint=first.base_fingerprint,
            passage_fingerprint=first.passage_fingerprint,
            training={"sum": summands},
        )
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name a new folder"
        ) from None


def sum_pairs(adapters: Sequence[Adapter], shares: Sequence[float]) -> Pairs:
    """Return A and B of each module, such that B A is the sum of share x scale x B A; fp16."""
    pairs: Pairs = {}
    for module in adapters[0].pairs:
        every_a = [adapter.pairs[module][0].float() for adapter in adapters]
        every_b = [
            adapter.pairs[module][1].float() * (share * adapter.scale)
            for adapter, share in zip(adapters, shares, strict=True)
        ]
        pairs[module] = (torch.cat(every_a).half(), torch.cat(every_b, dim=1).half())
    return pairs


def _difference(first: Adapter, other: Adapter) -> str | None:
    """Return what two adapters of one encoder must share but do not, or None."""
    ours, theirs = first.description, other.description
    if ours.base_fingerprint != theirs.base_fingerprint:
        return "`base_fingerprint`s"
    if ours.passage_fingerprint != theirs.passage_fingerprint:
        return "`passage_fingerprint`s"
    return "modules" if first.pairs.keys() != other.pairs.keys() else None
