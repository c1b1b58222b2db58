from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertModel

from trainer.training.lora import add_lora, lora_layers, merge_lora


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


def test_an_encoder_without_layers_to_adapt_is_refused(transformer: BertModel) -> None:
    with pytest.raises(ValueError, match="no linear layer of the transformer matches 'decoder"):
        add_lora(transformer, 2, 1.0, pattern="decoder.*")
