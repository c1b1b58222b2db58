"""Loading of a checkpoint's weights into the transformers model that its config.json names."""

from collections.abc import Collection
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, PreTrainedModel

from service.retrieval.checkpoint.adapter import merge_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.peft.adapter import merge_peft
from service.retrieval.checkpoint.transformer.config import (
    FIX,
    absent_sizes,
    architecture_violation,
    library_violation,
)
from service.retrieval.checkpoint.transformer.library import LOADING_ERRORS, quiet_transformers
from service.retrieval.encoder.runtime.padding import padding_violation
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage import artifact

# The classes of encoders whose decoders are not loaded.
ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
}


def load_model(layout: CheckpointLayout, precision: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the transformer from local files, without running code of the checkpoint.

    The layout's adapters, if any, are merged in fp32; then weights are rounded to `precision`.

    Raises:
        CheckpointError: the weights are damaged or do not match the configuration, or the
            adapter does not fit them; or the architecture lets padding change embeddings.
    """
    path = layout.transformer / "config.json"
    if violation := architecture_violation(layout.config):
        raise CheckpointError(f"{path}: {violation}")
    try:
        # Links to these files alone: an adapter or code beside them would change the model.
        with artifact.temporary_links(layout.model_files) as folder, quiet_transformers():
            model, report = _model_class(layout).from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except LOADING_ERRORS as error:
        if violation := library_violation(error):
            raise CheckpointError(f"{path}: {violation}: {FIX}") from None
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"the weights in {layout.transformer} cannot be loaded ({quoted(reason)}) with its "
            f"config.json{absent_sizes(layout.config)}: restore both from a copy"
        ) from None
    _check_fit(layout, report)
    loaded: PreTrainedModel = model
    if layout.peft:
        merge_peft(loaded, layout.peft)
    if layout.adapter:
        merge_adapter(loaded, layout.adapter)
    if violation := padding_violation(loaded, layout.max_tokens):
        raise CheckpointError(
            f"{path}: `model_type` {quoted(layout.config['model_type'])} {violation}: use an "
            "encoder of another architecture"
        )
    round_parameters(loaded, precision)
    return loaded


def _check_fit(layout: CheckpointLayout, report: dict[str, Any]) -> None:
    """Refuse weights that are not all that the architecture has, or of other sizes.

    transformers initializes missing weights at random; only the pooler is never used.
    """
    path = layout.transformer / "config.json"
    others = sorted(key for key in report["mismatched_keys"] if not key[0].startswith("pooler."))
    if others:
        name, found, expected = others[0]
        raise CheckpointError(
            f"{path} does not belong to the weights: {quoted(name)} is {list(found)} in the file "
            f"and {list(expected)} by the configuration{absent_sizes(layout.config)}: restore "
            "config.json from the encoder's own copy"
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"the weights in {layout.transformer} lack {missing[0]} and {len(missing) - 1} more: "
            "they do not belong to the architecture that config.json names"
            f"{absent_sizes(layout.config)}"
        )


def _model_class(layout: CheckpointLayout) -> Any:
    """Return the class to load: of an encoder-decoder architecture the encoder alone."""
    architecture = str(layout.config.get("model_type"))
    if architecture in ENCODERS:
        return getattr(transformers, ENCODERS[architecture])
    known = transformers.CONFIG_MAPPING
    if architecture in known and known[architecture]().is_encoder_decoder:
        raise CheckpointError(
            f"{layout.transformer / 'config.json'}: `model_type` {quoted(architecture)} has an "
            f"encoder and a decoder, of which only {', '.join(ENCODERS)} are supported: use "
            "another encoder"
        )
    return AutoModel


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
