import doctest
import random

import pytest

from service.retrieval.encoder import batches
from service.retrieval.encoder.batches import token_batches


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

    assert (results.attempted, results.failed) == (2, 0)
