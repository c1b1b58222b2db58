import doctest
import random

import pytest

from service.retrieval.encoder import batches
from service.retrieval.encoder.batches import (
    UNPOOLED,
    TokenizedText,
    num_prompt_tokens,
    pad_batch,
    token_batches,
)
from tests.conftest import tiny_tokenizer


@pytest.mark.parametrize(
    ("lengths", "max_batch_tokens", "expected"),
    [
        ([], 10, []),
        ([5], 10, [[0]]),
        ([3, 9, 4, 10], 20, [[3, 1], [2, 0]]),
        ([50, 2, 2], 10, [[0], [1, 2]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([4, 4], 7, [[0], [1]]),
    ],
)
def test_batches_by_hand(
    lengths: list[int], max_batch_tokens: int, expected: list[list[int]]
) -> None:
    assert token_batches(lengths, max_batch_tokens) == expected


@pytest.mark.parametrize("seed", range(20))
def test_batches_hold_each_text_once_and_keep_the_budget(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 80) for _ in range(rng.randint(0, 60))]
    budget = rng.randint(1, 300)

    found = token_batches(lengths, budget)

    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[position] for position in batch)
        assert longest * len(batch) <= budget or len(batch) == 1


def test_the_examples_of_the_docstrings_hold() -> None:
    results = doctest.testmod(batches)

    assert (results.attempted, results.failed) == (3, 0)


def test_the_prompts_tokens_are_marked_in_the_mask() -> None:
    texts = [TokenizedText([5, 6, 7], False, num_unpooled=2), TokenizedText([8], False)]

    assert pad_batch(texts, "query", 1).attention_mask.tolist() == [
        [UNPOOLED, UNPOOLED, 1],
        [1, 0, 0],
    ]


def test_a_prompts_tokens_are_those_of_it_alone_without_the_last_special_one() -> None:
    tokenizer = tiny_tokenizer()  # <s> before each text, </s> after it

    assert num_prompt_tokens(tokenizer, "query: ") == len(tokenizer.encode("query: ").ids) - 1
    assert num_prompt_tokens(tokenizer, "") == 0
