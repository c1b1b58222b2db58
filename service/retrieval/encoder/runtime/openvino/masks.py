"""Masks of attention in which no row is empty, for graphs of models with sliding windows.

A padding token far from every token of the text attends to nothing in a sliding window. The softmax
over nothing is zero in torch and NaN in OpenVINO, from where it spreads to the text's own tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

WINDOW_FIELDS = ("sliding_window", "local_attention", "attention_window")


@contextmanager
def without_empty_rows(model: PreTrainedModel) -> Iterator[None]:
    """Let rows without any token attend to all; models without windows are left as they are."""
    if not has_windows(model.config):
        yield
        return
    ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = _filled_mask
    try:
        yield
    finally:
        del ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]  # type: ignore[no-untyped-call]


def has_windows(config: PreTrainedConfig) -> bool:
    """Return whether a model's tokens attend to their neighbors only, in some layers."""
    has_layers = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return has_layers or any(getattr(config, name, None) for name in WINDOW_FIELDS)


def _filled_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Return transformers' mask [B, 1, L, L], its empty rows filled; None if all is attended to."""
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return None if mask is None else mask | ~mask.any(dim=-1, keepdim=True)
