"""Export of a trained encoder: a checkpoint folder, or a query-side adapter of its base."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from service.retrieval.checkpoint.adapter_files import write_adapter
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.checkpoint.writer import (
    stating_prompts,
    with_other_weights,
    write_checkpoint,
)
from service.retrieval.storage import artifact
from trainer.config import RunConfig
from trainer.training.lora import lora_layers, merge_lora
from trainer.training.model import TrainableEncoder


def export(
    directory: Path, trainable: TrainableEncoder, config: RunConfig, facts: Mapping[str, Any]
) -> Path:
    """Write the trained encoder; an adapter that changed both sides is merged into the weights.

    Args:
        directory: the run directory.
        trainable: the trained encoder.
        config: of the run.
        facts: about the run, for the manifest.

    Returns:
        The folder: `adapter` if an adapter was trained for frozen passages, else `encoder`.
    """
    is_query_side = config.objective.freezes_passages
    if is_query_side and config.encoder.lora_rank:
        return _publish(
            directory / "adapter", lambda at: _write_adapter(at, trainable, config, facts)
        )
    if config.encoder.lora_rank:
        merge_lora(trainable.transformer)
    # If only queries were trained, the passage embeddings of the base stay valid.
    passage = {"passage_fingerprint": trainable.base.passage_fingerprint} if is_query_side else {}
    return _publish(
        directory / "encoder", lambda at: _write_encoder(at, trainable, {**passage, **facts})
    )


def _publish(target: Path, write: Any) -> Path:
    with artifact.temporary_directory(target.parent, ".writing-") as temporary:
        write(temporary)
        if target.exists():
            shutil.rmtree(target)
        artifact.publish_directory(temporary, target)
    return target


def _write_adapter(
    directory: Path, trainable: TrainableEncoder, config: RunConfig, facts: Mapping[str, Any]
) -> None:
    pairs = {
        name: (layer.lora_a.to(torch.float16), layer.lora_b.to(torch.float16))
        for name, layer in lora_layers(trainable.transformer)
    }
    write_adapter(
        directory,
        pairs,
        config.encoder.lora_scale,
        base=_base_name(config.encoder.name),
        base_fingerprint=trainable.base.fingerprint,
        passage_fingerprint=trainable.base.passage_fingerprint,
        **facts,
    )


def _base_name(name: str) -> str:
    """Return the name by which an adapter finds its base, wherever the service is started."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _write_encoder(directory: Path, trainable: TrainableEncoder, facts: Mapping[str, Any]) -> None:
    layout = read_layout(trainable.directory)
    state = trainable.transformer.state_dict()
    files = with_other_weights(trainable.directory, layout, state)
    if trainable.base.prompts != layout.prompts:  # those of a known family: the folder has none
        files = stating_prompts(trainable.directory, files, trainable.base.prompts)
    write_checkpoint(directory, files, **facts)
