from typing import Any

import pytest
import torch

from trainer.objective.micro_batches import cut_by_length, in_order

LENGTHS = ([3, 9, 1, 4], [2, 5, 5, 7])


def column(lengths: list[int], first: int, side: str) -> dict[str, Any]:
    """Make texts whose tokens all equal the number of the text, padded with -1."""
    width = max(lengths)
    ids = torch.full((len(lengths), width), -1)
    for row, length in enumerate(lengths):
        ids[row, slice(0, length) if side == "right" else slice(width - length, None)] = first + row
    return {"input_ids": ids, "attention_mask": (ids >= 0).long(), "modality": "text"}


@pytest.fixture(params=["left", "right"])
def columns(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return [column(lengths, 4 * k, request.param) for k, lengths in enumerate(LENGTHS)]


@pytest.mark.parametrize("sizes", [{}, {"max_tokens": 12}, {"max_texts": 3}, {"max_tokens": 1}])
def test_each_text_is_in_one_micro_batch_with_its_tokens_and_place(
    columns: list[dict[str, Any]], sizes: dict[str, int]
) -> None:
    found = cut_by_length(columns, **sizes)

    numbers = [each.features["input_ids"].max(dim=1).values for each in found]
    lengths = [each.features["attention_mask"].sum(dim=1) for each in found]
    assert in_order(numbers, found).tolist() == list(range(8))
    assert in_order(lengths, found).tolist() == [*LENGTHS[0], *LENGTHS[1]]
    assert all(each.features["modality"] == "text" for each in found)


def test_micro_batches_hold_texts_of_similar_length_within_the_budget(
    columns: list[dict[str, Any]],
) -> None:
    found = cut_by_length(columns, max_tokens=12)

    shapes = [tuple(each.features["input_ids"].shape) for each in found]
    assert shapes == [(1, 9), (1, 7), (2, 5), (3, 4), (1, 1)]
    assert [each.places.tolist() for each in found] == [[1], [7], [5, 6], [3, 0, 4], [2]]


def test_a_longer_text_than_the_budget_has_its_own_micro_batch(
    columns: list[dict[str, Any]],
) -> None:
    found = cut_by_length(columns, max_tokens=8)

    assert tuple(found[0].features["input_ids"].shape) == (1, 9)


def test_the_number_of_texts_can_be_limited(columns: list[dict[str, Any]]) -> None:
    found = cut_by_length(columns, max_texts=3)

    assert [len(each.places) for each in found] == [3, 3, 2]
