import torch

from trainer.objective.false_negatives import false_negatives, pool_false_negatives


def test_a_rows_own_passage_elsewhere_in_the_batch_is_no_negative() -> None:
    codes = torch.tensor([[10, 12], [11, 10], [10, 13]])  # rows 0 and 2 share a passage

    assert false_negatives(codes, slice(None)).int().tolist() == [
        # positives of rows 0-2, then their hard negatives
        [0, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0],
    ]


def test_an_equal_passage_of_the_pool_is_no_negative_but_the_target_is_a_candidate() -> None:
    codes = torch.tensor([7, 8, 7])

    assert pool_false_negatives(codes, torch.tensor([0, 1])).int().tolist() == [
        [0, 0, 1],
        [0, 0, 0],
    ]
