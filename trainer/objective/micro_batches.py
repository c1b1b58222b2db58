"""Micro-batches: the texts of a batch, sorted by length and cut so that little is padding.

A batch that is padded to its longest text is mostly padding where the lengths of its texts differ,
as those of questions and news articles do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Features = dict[str, Any]
MASK = "attention_mask"


@dataclass(frozen=True)
class MicroBatch:
    """Some texts of a batch, padded to the longest of them.

    Attributes:
        features: tokenized texts.
        places: where each text is among all texts, column by column, [b].
    """

    features: Features
    places: Tensor


def cut_by_length(
    columns: Sequence[Features], *, max_tokens: int | None = None, max_texts: int | None = None
) -> list[MicroBatch]:
    """Cut the texts of columns into micro-batches, the longest texts first.

    Args:
        columns: tokenized texts, each padded on the same side.
        max_tokens: of a micro-batch, with padding; a longer text has its own micro-batch.
        max_texts: of a micro-batch.
    """
    joined, is_left_padded = _join(columns)
    lengths = joined[MASK].sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    ordered = lengths[order].tolist()
    cut = []
    for start, end in _ranges(ordered, max_tokens, max_texts):
        places, longest = order[start:end], ordered[start]
        width = slice(-longest, None) if is_left_padded else slice(0, longest)
        features = {
            name: value[places][:, width] if isinstance(value, Tensor) else value
            for name, value in joined.items()
        }
        cut.append(MicroBatch(features, places))
    return cut


def _ranges(
    lengths: Sequence[int], max_tokens: int | None, max_texts: int | None
) -> Iterator[tuple[int, int]]:
    """Yield the first and the last text (exclusive) of each micro-batch.

    >>> list(_ranges([5, 3, 3, 2, 1], max_tokens=6, max_texts=None))
    [(0, 1), (1, 3), (3, 5)]
    """
    start = 0
    while start < len(lengths):
        room = len(lengths) if max_tokens is None else max_tokens // lengths[start]
        end = min(start + max(1, min(room, max_texts or room)), len(lengths))
        yield start, end
        start = end


def _join(columns: Sequence[Features]) -> tuple[Features, bool]:
    """Concatenate columns along the batch, padded to the longest, and find the side of padding."""
    is_left_padded = any(bool((column[MASK][:, 0] == 0).any()) for column in columns)
    width = max(column[MASK].shape[1] for column in columns)
    joined = dict(columns[0])
    for name, first in columns[0].items():
        if isinstance(first, Tensor):
            joined[name] = torch.cat([_pad(each[name], width, is_left_padded) for each in columns])
    return joined, is_left_padded


def _pad(value: Tensor, width: int, is_left_padded: bool) -> Tensor:
    missing = width - value.shape[1]
    return nn.functional.pad(value, (missing, 0) if is_left_padded else (0, missing))


def in_order(parts: Sequence[Tensor], micro_batches: Sequence[MicroBatch]) -> Tensor:
    """Concatenate what was computed of each micro-batch, in the order of the batch."""
    places = torch.cat([micro_batch.places for micro_batch in micro_batches])
    return torch.cat(list(parts))[places.argsort()]
