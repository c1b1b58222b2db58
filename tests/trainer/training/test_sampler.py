from collections import Counter

import pytest

from trainer.training.sampler import LanguageSampler


def make_sampler(**options: object) -> LanguageSampler:
    groups = ["0:sw"] * 12 + ["0:ha"] * 6 + ["1:de"] * 6
    options = {
        "batch_size": 4,
        "drop_last": True,
        "groups": groups,
        "passage_ids": [f"p{row}" for row in range(len(groups))],
        "shares": {},
        "seed": 3,
        **options,
    }
    return LanguageSampler(range(len(groups)), **options)  # type: ignore[arg-type]


def test_an_epoch_draws_each_row_once_in_as_many_batches_as_its_length() -> None:
    batches = list(make_sampler())

    assert sorted(row for batch in batches for row in batch) == list(range(24))
    assert len(batches) == len(make_sampler()) == 6


def test_batches_mix_languages_in_proportion() -> None:
    for batch in make_sampler(batch_size=8):
        languages = Counter("sw" if row < 12 else "ha" if row < 18 else "de" for row in batch)
        assert 3 <= languages["sw"] <= 5
        assert 1 <= languages["ha"] <= 3
        assert 1 <= languages["de"] <= 3


def test_separate_batches_hold_one_group_each() -> None:
    sampler = make_sampler(batch_size=3, mixing="separate")

    batches = list(sampler)

    assert len(batches) == len(sampler) == 8
    assert all(len({0 if row < 12 else row // 6 for row in batch}) == 1 for batch in batches)


def test_shares_repeat_and_leave_out_rows() -> None:
    rows = Counter(
        row
        for batch in make_sampler(shares={"0:ha": 2.0, "1:de": 0.5}, drop_last=False)
        for row in batch
    )

    assert {rows[row] for row in range(12, 18)} == {2}
    assert sum(rows[row] for row in range(18, 24)) == 3


def test_two_rows_of_one_passage_are_in_different_batches() -> None:
    """Rows 0 and 1 share a passage, 2 and 3, and so on; all rows are drawn."""
    sampler = make_sampler(passage_ids=[f"p{row // 2}" for row in range(24)])

    batches = list(sampler)

    assert sorted(row for batch in batches for row in batch) == list(range(24))
    assert all(len({row // 2 for row in batch}) == len(batch) for batch in batches[:-1])


def test_one_passage_alone_still_fills_its_batches() -> None:
    batches = list(make_sampler(passage_ids=["p"] * 24, drop_last=False))

    assert sorted(row for batch in batches for row in batch) == list(range(24))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, again, other = make_sampler(), make_sampler(), make_sampler(seed=4)
    once = list(first)

    assert once == list(again) == list(first)
    assert once != list(other)
    again.set_epoch(1)
    assert once != list(again)


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [5] * 4), (False, [5] * 4 + [4])])
def test_the_last_batch_is_dropped_or_short(drop_last: bool, sizes: list[int]) -> None:
    sampler = make_sampler(batch_size=5, drop_last=drop_last)

    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)
