import pytest
import torch
from transformers import BertConfig, Gemma3TextConfig, MistralConfig, ModernBertConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextModel

from service.retrieval.encoder.runtime.openvino.masks import has_windows, without_empty_rows

CONFIG = Gemma3TextConfig(
    vocab_size=9,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=8,
    intermediate_size=8,
    sliding_window=2,
    use_bidirectional_attention=True,
)


def is_near(batch: int, head: int, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return (query - key).abs() <= 1


def mask_of(attention_mask: torch.Tensor) -> torch.Tensor:
    length = attention_mask.shape[1]
    mask = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](
        1, length, length, mask_function=is_near, attention_mask=attention_mask
    )
    assert mask is not None
    return mask[0, 0]


def test_rows_of_padding_outside_of_every_window_attend_to_all() -> None:
    padded = torch.tensor([[True, False, False, False]])

    with without_empty_rows(Gemma3TextModel(CONFIG)):
        filled = mask_of(padded)

    assert filled.int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert mask_of(padded).int().sum() == 2
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CONFIG, True),
        (ModernBertConfig(), True),
        (MistralConfig(sliding_window=16), True),
        (MistralConfig(sliding_window=None), False),
        (BertConfig(), False),
    ],
)
def test_windows_are_found_by_the_configuration(config: BertConfig, expected: bool) -> None:
    assert has_windows(config) == expected
