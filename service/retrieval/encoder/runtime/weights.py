"""Reads a checkpoint's weights into the transformers model that its configuration names."""

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

# What transformers raises over a configuration or weights that it cannot use.
LOADING_ERRORS = (
    *(SafetensorError, StrictDataclassError, OSError, ImportError, MemoryError),
    *(ValueError, LookupError, RuntimeError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError),
)


def load_model(layout: CheckpointLayout, precision: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the transformer; no code of the checkpoint is run and nothing is fetched.

    An adapter of the layout is merged in fp32, before the weights are rounded.

    Raises:
        CheckpointError: the weights are damaged or not those of the configuration, or the
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
    # A library fills what is missing at random; only the pooler is never read.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"the weights in {layout.transformer} lack {missing[0]} and {len(missing) - 1} more: "
            "they are not of the architecture that config.json names"
        )
    loaded: PreTrainedModel = model
    if layout.adapter:
        merge_adapter(loaded, layout.adapter)
    round_parameters(loaded, precision)
    return loaded


def round_parameters(model: nn.Module, precision: torch.dtype) -> None:
    """Change the precision of a model's parameters in place.

    Not `model.to(precision)`: that rounds buffers, too, and rotary positions need fp32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(precision)


def share_parameters(
    model: nn.Module, other: nn.Module, changed: Collection[str] | None = None
) -> None:
    """Have a model use another's tensors wherever the two are equal, so that memory holds one.

    The embedding table is equal where only the layers were trained: four fifths of a small
    multilingual encoder.

    Args:
        model: gives its own tensors up.
        other: on the same device, in the same precision.
        changed: the parameters that differ, where that is known: to compare weights that lie
            mapped in a file would load them.
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
    """Keep the library's bars, warnings and loading report off the terminal; errors are raised."""
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
