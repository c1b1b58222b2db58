import doctest

import pytest
import torch

from service.retrieval.checkpoint.modules.pooling import POOLING_MODES
from service.retrieval.encoder import pooling
from service.retrieval.encoder.pooling import POOLING

# Two texts, of two tokens and of three, padded with 9 on the right and on the left.
RIGHT = (
    [[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]]],
    [[1, 1, 0], [1, 1, 1]],
)
LEFT = (
    [[[9.0, 9.0], [1.0, 2.0], [3.0, 6.0]], [[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]]],
    [[0, 1, 1], [1, 1, 1]],
)


@pytest.mark.parametrize(("hidden", "mask"), [RIGHT, LEFT], ids=["right", "left"])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mean", [[2.0, 4.0], [3.0, 1.0]]),
        ("cls", [[1.0, 2.0], [1.0, 0.0]]),
        ("lasttoken", [[3.0, 6.0], [6.0, 3.0]]),
        ("max", [[3.0, 6.0], [6.0, 3.0]]),
    ],
)
def test_padding_on_either_side_is_left_out(
    hidden: list[list[list[float]]], mask: list[list[int]], mode: str, expected: list[list[float]]
) -> None:
    pooled = POOLING[mode](torch.tensor(hidden), torch.tensor(mask))

    assert pooled.tolist() == expected


def test_every_mode_has_its_function() -> None:
    assert sorted(POOLING) == sorted(POOLING_MODES)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling_keeps_the_dtype(mode: str) -> None:
    hidden = torch.ones(1, 2, 4, dtype=torch.bfloat16)

    pooled = POOLING[mode](hidden, torch.ones(1, 2, dtype=torch.int64))

    assert pooled.dtype == torch.bfloat16
    assert pooled.shape == (1, 4)


def test_the_examples_of_the_docstrings_hold() -> None:
    results = doctest.testmod(pooling)

    assert (results.attempted, results.failed) == (7, 0)
