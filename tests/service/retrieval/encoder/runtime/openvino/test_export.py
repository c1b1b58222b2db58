"""What an exported graph does with the embedding layer of its model."""

from importlib.util import find_spec

import pytest
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from service.retrieval.encoder.runtime.openvino.export import embedding_scale


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
