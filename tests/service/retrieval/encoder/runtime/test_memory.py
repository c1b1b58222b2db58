"""What a text costs in memory and time, and what does not fit."""

import doctest
from pathlib import Path

import pytest

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime import memory
from service.retrieval.encoder.runtime.memory import TextCost, check_memory, weight_bytes
from service.retrieval.errors import MemoryShortError

BERT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def test_the_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(memory).failed == 0


@pytest.mark.parametrize(
    "config",
    [
        BERT,
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},  # DistilBERT
        {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2},  # T5
    ],
)
def test_the_shape_is_read_by_the_names_of_each_architecture(config: dict[str, int]) -> None:
    assert TextCost.of(config) == TextCost(32, 64, 2, 2)
    assert TextCost.of({}) is None


def test_only_some_architectures_hold_the_scores_of_all_pairs() -> None:
    in_blocks, with_scores = TextCost.of(BERT), TextCost.of(BERT | {"model_type": "mpnet"})
    assert in_blocks and with_scores

    assert in_blocks.num_bytes(100) == 4 * 640 * 100 + 5 * 100**2
    assert with_scores.num_bytes(100) == in_blocks.num_bytes(100) + 4 * 3 * 2 * 100**2


def test_attention_makes_a_long_text_slower_than_its_share_of_tokens() -> None:
    cost = TextCost(32, 64, 2, 2)

    # matrices of 8,192 products a token, and 64 products a pair of tokens
    assert cost.seconds(256, 128, 1.0) == (256 * 8192 + 64 * 256**2) / (128 * 8192 + 64 * 128**2)
    assert cost.seconds(128, 128, 1.5) == 1.5


@pytest.mark.parametrize("free", [0, 1000, 10**6, 10**9])
def test_the_longest_text_that_fits_fits_and_one_token_more_does_not(free: int) -> None:
    cost = TextCost(32, 64, 2, 2)

    fitting = cost.longest_fitting(free, 8192)

    assert cost.num_bytes(fitting) <= free
    assert fitting == 8192 or cost.num_bytes(fitting + 1) > free


def test_what_does_not_fit_is_refused_with_the_setting_that_fixes_it(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = read_layout(tiny_checkpoint)
    cost = TextCost(32, 64, 2, 2)
    weights = weight_bytes(layout, "fp32")
    free = weights + cost.num_bytes(64) - 1
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)

    with pytest.raises(MemoryShortError, match="set CLEAR_MAX_TOKENS=63 or less, or give it more"):
        load_encoder(str(tiny_checkpoint), device="cpu")

    assert load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=63).max_tokens == 63
    check_memory(layout, "cpu", "bf16", 64, is_shared=False)  # half of the weights
    check_memory(layout, "cpu", "fp32", 64, is_shared=True)
    monkeypatch.setattr(memory, "free_bytes", lambda device: weights - 1)
    with pytest.raises(MemoryShortError, match="on cpu: give it more memory, or name a smaller"):
        check_memory(layout, "cpu", "fp32", 8, is_shared=False)


def test_nothing_is_refused_where_the_system_does_not_tell_its_memory(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: str) -> int:
        raise MemoryShortError("no /proc/meminfo")

    monkeypatch.setattr(memory, "free_bytes", fail)

    check_memory(read_layout(tiny_checkpoint), "cpu", "fp32", 64, is_shared=False)
