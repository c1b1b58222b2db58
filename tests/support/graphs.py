"""Graphs of OpenVINO, made in the process of the tests, and once for equal transformers.

A graph holds the transformer alone: encoders that differ in prompts, pooling or later modules have
the same one. Tracing it takes seconds. What is kept is the file of the graph: the checkpoint is
read and the probe is computed for each encoder, as the service does.
"""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from service.retrieval.checkpoint.layout import CheckpointLayout


class GraphExporter:
    """Exports a checkpoint's graph as the service does, or copies the one of an equal transformer.

    Args:
        folder: of the graphs that were made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, directory: Path, layout: "CheckpointLayout") -> str:
        """Write a checkpoint's graph and probe, as `export_graph` does."""
        from service.retrieval.encoder.runtime.openvino import export

        trace = export._export

        def trace_once(
            model: "PreTrainedModel", path: Path, table: "Tensor", max_tokens: int
        ) -> None:
            made = self.folder / _digest(model, max_tokens)
            if not made.exists():
                trace(model, path, table, max_tokens)
                shutil.copytree(path.parent, made)
            shutil.copytree(made, path.parent, dirs_exist_ok=True)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "_export", trace_once)
            return export.export_graph(directory, layout)


def _digest(model: "PreTrainedModel", max_tokens: int) -> str:
    """Return a hash of what a graph depends on: configuration, weights and limit of tokens."""
    config = {**model.config.to_dict(), "_name_or_path": "", "max_tokens": max_tokens}
    digest = hashlib.sha256(f"{type(model).__name__} {sorted(config.items())}".encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()
