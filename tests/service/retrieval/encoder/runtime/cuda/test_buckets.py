import doctest

import pytest

from service.retrieval.encoder.batches import Shape, max_rows
from service.retrieval.encoder.runtime.cuda import buckets
from service.retrieval.encoder.runtime.cuda.buckets import (
    LENGTHS,
    bucket_length,
    bucket_lengths,
    pieces,
    shapes_to_prepare,
)

LIMITS = (8, 17, 64, 512)
BUDGETS = (1, 100, 2048, 5000)


@pytest.mark.parametrize("max_tokens", LIMITS)
def test_a_length_goes_to_the_shortest_bucket_that_holds_it(max_tokens: int) -> None:
    lengths = bucket_lengths(max_tokens)

    for length in range(1, max_tokens + 1):
        bucket = bucket_length(length, max_tokens)
        assert length <= bucket <= max_tokens
        assert all(shorter < length for shorter in lengths if shorter < bucket)


def test_a_bucket_is_less_than_twice_the_length() -> None:
    for length in range(LENGTHS[0], 513):
        assert bucket_length(length, 512) < 2 * length


def test_a_text_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens are over the encoder's limit of 64"):
        bucket_length(65, 64)


@pytest.mark.parametrize("max_batch_tokens", BUDGETS)
def test_rows_are_the_largest_power_of_two_within_the_budget(max_batch_tokens: int) -> None:
    for length in range(1, 513):
        rows = max_rows(length, max_batch_tokens)
        assert rows & (rows - 1) == 0
        assert rows == 1 or rows * length <= max_batch_tokens
        assert 2 * rows * length > max_batch_tokens


@pytest.mark.parametrize("max_tokens", LIMITS)
@pytest.mark.parametrize("max_batch_tokens", BUDGETS)
def test_pieces_hold_each_row_once_in_a_shape_that_is_known(
    max_tokens: int, max_batch_tokens: int
) -> None:
    shapes = set(shapes_to_prepare(max_tokens, max_batch_tokens))

    for length in {1, 2, 15, 16, 17, 33, max_tokens - 1, max_tokens} & set(range(max_tokens + 1)):
        for num_rows in range(300):
            covered = 0
            for rows, shape in pieces(num_rows, length, max_tokens, max_batch_tokens):
                assert rows.start == covered
                covered = rows.stop
                assert shape in shapes
                assert length <= shape.length
                assert shape.num_rows // 2 < rows.stop - rows.start <= shape.num_rows
            assert covered == num_rows


@pytest.mark.parametrize("max_tokens", LIMITS)
@pytest.mark.parametrize("max_batch_tokens", BUDGETS)
def test_every_shape_is_asked_for_and_keeps_the_budget(
    max_tokens: int, max_batch_tokens: int
) -> None:
    shapes = shapes_to_prepare(max_tokens, max_batch_tokens)

    asked = {
        shape
        for length in bucket_lengths(max_tokens)
        for num_rows in range(1, max_batch_tokens // length + 2)
        for _, shape in pieces(num_rows, length, max_tokens, max_batch_tokens)
    }
    assert sorted(asked, key=str) == sorted(shapes, key=str)
    for shape in shapes:
        assert shape.num_tokens <= max_batch_tokens or shape.num_rows == 1


def test_the_largest_shape_comes_first() -> None:
    sizes = [shape.num_tokens for shape in shapes_to_prepare(512, 16_384)]

    assert sizes == sorted(sizes, reverse=True)
    assert shapes_to_prepare(512, 16_384)[0] == Shape(
        32, 512
    )  # the longest: its mask is the largest


def test_no_shape_of_a_text_over_512_tokens_is_prepared() -> None:
    assert {shape.length for shape in shapes_to_prepare(8192, 16_384)} == {
        16,
        32,
        64,
        128,
        256,
        512,
    }
    assert bucket_lengths(8192)[5:] == (512, 1024, 2048, 4096, 8192)
    assert shapes_to_prepare(8192, 16_384) == shapes_to_prepare(512, 16_384)


def test_there_are_few_shapes() -> None:
    assert len(shapes_to_prepare(512, 2048)) == 33
    assert len(shapes_to_prepare(512, 16_384)) == 51
    assert len(shapes_to_prepare(512, 65_536)) == 63


def test_the_example_of_the_docstring_holds() -> None:
    results = doctest.testmod(buckets)

    assert (results.attempted, results.failed) == (1, 0)
