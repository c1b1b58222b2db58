"""Loading of a checkpoint's weights into the transformers model that its config.json names."""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from service.retrieval.checkpoint.adapter import merge_adapter, without_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.errors import CheckpointError

# What transformers raises for a configuration or weights that it cannot use.
LOADING_ERRORS = (
    *(SafetensorError, StrictDataclassError, OSError, ImportError, MemoryError),
    *(ValueError, LookupError, RuntimeError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError),
)


def load_model(layout: CheckpointLayout, precision: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the transformer from local files, without running code of the checkpoint.

    The layout's adapter, if any, is merged in fp32 before the weights are rounded to `precision`.

    Raises:
        CheckpointError: the weights are damaged or do not match the configuration, or the
            adapter does not fit them.
    """
    try:
        with without_adapter(layout.transformer) as folder, _quiet_transformers():
            model, report = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except LOADING_ERRORS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"the weights in {layout.transformer} cannot be loaded ({reason}): "
            "restore them from a copy"
        ) from None
    # transformers initializes missing weights at random; only the pooler is never used.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"the weights in {layout.transformer} lack {missing[0]} and {len(missing) - 1} more: "
            "they do not belong to the architecture that config.json names"
        )
    loaded: PreTrainedModel = model
    if layout.adapter:
        merge_adapter(loaded, layout.adapter)
    round_parameters(loaded, precision)
    return loaded


def round_parameters(model: nn.Module, precision: torch.dtype) -> None:
    """Round a model's parameters to a precision, in place.

    `model.to(precision)` would round buffers, too, and rotary positions need fp32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(precision)


def share_parameters(
    model: nn.Module, other: nn.Module, changed: Collection[str] | None = None
) -> None:
    """Replace a model's parameters by another's equal ones, so that memory holds them once.

    If only the layers were trained, the embedding table is equal: four fifths of a small
    multilingual encoder.

    Args:
        model: its equal parameters are replaced.
        other: a model on the same device, in the same precision.
        changed: parameters that differ, if known; without it weights are compared, which loads
            those that are mapped from a file.
    """
    others = dict(other.named_parameters())
    for name, parameter in list(model.named_parameters()):
        twin = others.get(name)
        if twin is None or twin.shape != parameter.shape:
            continue
        if torch.equal(twin, parameter) if changed is None else name not in changed:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, twin)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppress the library's progress bars, warnings and loading report; errors still raise."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
