"""Reads a checkpoint's weights into the transformers model that its configuration names."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from service.retrieval.errors import CheckpointError
from service.retrieval.layout import CheckpointLayout


def load_model(layout: CheckpointLayout, precision: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the transformer; no code of the checkpoint is run and nothing is fetched.

    Raises:
        CheckpointError: the weights are damaged or not those of the configuration.
    """
    try:
        with _quiet_transformers():
            model, report = AutoModel.from_pretrained(
                layout.transformer,
                dtype=precision,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
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
    return loaded


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the library's bars and its loading report off the terminal; errors are raised here."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
