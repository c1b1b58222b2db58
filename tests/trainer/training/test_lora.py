from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertModel, GPT2Config, Qwen3MoeConfig

from tests.support.architectures import CONFIGS, tiny_transformer
from trainer.errors import ConfigError
from trainer.training.lora import add_lora, lora_layers, matrices_without_adapter, merge_lora


@pytest.fixture
def transformer(tiny_checkpoint: Path) -> BertModel:
    model: BertModel = AutoModel.from_pretrained(tiny_checkpoint).eval()
    return model


def outputs(model: BertModel) -> torch.Tensor:
    ids = torch.arange(12).reshape(2, 6) + 5
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=ids).last_hidden_state
    return hidden


def fill(model: BertModel) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_()


def test_a_new_adapter_changes_nothing_and_alone_learns(transformer: BertModel) -> None:
    before = outputs(transformer)

    add_lora(transformer, rank=3, scale=2.0)

    torch.testing.assert_close(outputs(transformer), before)
    names = {name for name, p in transformer.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in names} == {"lora_a", "lora_b"}
    assert len(names) == 2 * 6 * 2  # factors x linear layers x blocks


def test_merged_weights_give_what_the_adapter_gave(transformer: BertModel) -> None:
    names = set(transformer.state_dict())
    before = outputs(transformer)
    add_lora(transformer, rank=3, scale=2.0)
    fill(transformer)
    adapted = outputs(transformer)

    merge_lora(transformer)

    assert not torch.allclose(adapted, before, atol=1e-2)
    torch.testing.assert_close(outputs(transformer), adapted, atol=1e-4, rtol=1e-4)
    assert set(transformer.state_dict()) == names


def test_layers_are_named_by_module_path(transformer: BertModel) -> None:
    add_lora(transformer, rank=3, scale=2.0)

    layers = dict(lora_layers(transformer))

    assert layers["encoder.layer.1.attention.self.query"].lora_a.shape == (3, 32)
    assert layers["encoder.layer.0.intermediate.dense"].lora_b.shape == (64, 3)


LINEAR_LAYERS = {  # of two blocks
    **{"albert": 6, "bert": 12, "camembert": 12, "deberta-v2": 12, "distilbert": 12},
    **{"electra": 12, "eurobert": 14, "gemma3_text": 14, "gte": 14, "jina_embeddings_v3": 12},
    **{"mistral": 14, "modernbert": 8, "mpnet": 12, "mt5": 14, "nomic_bert": 14, "qwen2": 14},
    **{"qwen3": 14, "roberta": 12, "t5": 12, "xlm-roberta": 12},
}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_an_adapter_covers_the_linear_layers_of_blocks_alone(architecture: str) -> None:
    """Pooler and projections of factorized embeddings are outside; ALBERT's blocks are one."""
    transformer = tiny_transformer(architecture)

    add_lora(transformer, rank=2, scale=1.0)

    layers = dict(lora_layers(transformer))
    left = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.removesuffix(".base") not in layers
    ]
    assert len(layers) == LINEAR_LAYERS[architecture]
    assert {name.rpartition(".")[2] for name in left if "pooler" not in name} <= {
        *("embedding_hidden_mapping_in", "embeddings_project")
    }
    assert not matrices_without_adapter(transformer)


def test_an_encoder_without_linear_layers_is_refused_by_their_class() -> None:
    gpt2 = AutoModel.from_config(
        GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9, n_positions=8)
    )

    with pytest.raises(ConfigError, match=r"^encoder.lora_rank: .* GPT2Model .* only Conv1D: set"):
        add_lora(gpt2, 2, 1.0)


def test_experts_that_share_a_tensor_are_named() -> None:
    mixture = AutoModel.from_config(
        Qwen3MoeConfig(
            vocab_size=9,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=8,
            moe_intermediate_size=4,
            num_experts=2,
            num_experts_per_tok=1,
        )
    )

    add_lora(mixture, 2, 1.0)

    assert set(dict(lora_layers(mixture))) == {
        f"layers.0.self_attn.{name}_proj" for name in ("q", "k", "v", "o")
    }
    assert matrices_without_adapter(mixture) == {
        "layers.0.mlp.gate.weight": "Qwen3MoeTopKRouter",
        "layers.0.mlp.experts.gate_up_proj": "Qwen3MoeExperts",
        "layers.0.mlp.experts.down_proj": "Qwen3MoeExperts",
    }
