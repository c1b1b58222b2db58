import torch
from transformers import OPTConfig, OPTModel

from service.retrieval.encoder.head import Head
from service.retrieval.encoder.runtime.torch import TorchRuntime


def test_the_dimension_is_that_of_the_models_output() -> None:
    sizes = {"ffn_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16}
    config = OPTConfig(hidden_size=8, word_embed_proj_dim=6, **sizes)

    runtime = TorchRuntime(OPTModel(config), Head(), torch.device("cpu"))

    assert config.hidden_size == 8
    assert runtime.embedding_dim == 6
