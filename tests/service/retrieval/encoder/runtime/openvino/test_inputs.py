import doctest

import numpy as np
import torch

from service.retrieval.encoder.runtime.openvino import inputs
from service.retrieval.encoder.runtime.openvino.inputs import padded_inputs, token_positions


def test_texts_are_padded_to_a_length_with_the_first_row_that_is_masked() -> None:
    table = torch.arange(6.0, dtype=torch.float16).view(3, 2)

    embedded, mask = padded_inputs(np.array([[2, 1]]), np.array([[1, 1]]), table, 3)

    assert embedded.tolist() == [[[4, 5], [2, 3], [0, 1]]]
    assert embedded.dtype == np.float32
    assert mask.tolist() == [[1, 1, 0]]


def test_a_column_holds_each_token_once_and_leads_back_to_its_place() -> None:
    mask = (np.random.default_rng(0).random((7, 50)) < 0.6).astype(np.int64)

    tokens, places = token_positions(mask)

    count = int(mask.sum())
    assert tokens[:count].tolist() == np.flatnonzero(mask).tolist()
    assert tokens[count:].tolist() == [0] * (len(tokens) - count)
    assert tokens[places[mask > 0]].tolist() == np.flatnonzero(mask).tolist()
    assert not places[mask == 0].any()


def test_a_column_has_one_of_eight_sizes_an_octave() -> None:
    sizes = [len(token_positions(np.ones((1, count)))[0]) for count in (1, 15, 17, 130, 255, 257)]

    assert sizes == [1, 15, 18, 144, 256, 288]


def test_a_column_with_padding_depends_on_the_shape_alone() -> None:
    for mask in (np.ones((2, 17)), np.eye(2, 17)):
        tokens, places = token_positions(mask, keeps_padding=True)

        assert tokens.tolist() == places.ravel().tolist() == list(range(34))


def test_a_batch_without_any_token_has_a_column_of_one() -> None:
    assert token_positions(np.zeros((1, 2)))[0].tolist() == [0]


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(inputs).failed == 0
