"""What an exported graph does with the embedding layer of its model."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.encoder.runtime.openvino import export
from service.retrieval.encoder.runtime.openvino.export import embedding_scale, export_graph
from service.retrieval.errors import CheckpointError


def test_a_plain_table_is_not_scaled() -> None:
    layer = nn.Embedding(100, 8, padding_idx=0)

    assert embedding_scale(layer, layer.weight) == 1.0


def test_the_scale_of_a_scaled_table_is_found() -> None:
    layer = Gemma3TextScaledWordEmbedding(100, 8, padding_idx=0, embed_scale=8**0.5)

    assert embedding_scale(layer, layer.weight) == pytest.approx(8**0.5, rel=1e-6)


def test_a_layer_that_does_more_than_scale_is_refused() -> None:
    class Shifted(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    layer = Shifted(100, 8)

    with pytest.raises(ValueError, match="does more than scale the rows of a table"):
        embedding_scale(layer, layer.weight)


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (0, "no space is left in .*: free some, or set CLEAR_CACHE to another folder"),
        (2**30, r"cannot be exported as a graph \(basic_ios::clear\): set CLEAR_CPU_ENGINE=torch"),
    ],
)
def test_a_full_disk_is_told_from_an_architecture_that_cannot_be_exported(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    message: str,
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("basic_ios::clear")

    monkeypatch.setattr(export, "_export", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    layout = open_checkpoint(str(tiny_checkpoint), tmp_path).query

    with pytest.raises(CheckpointError, match=message):
        export_graph(tmp_path, layout)
