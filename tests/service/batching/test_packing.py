from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.packing import MAX_PADDING_SHARE, pick
from tests.service.batching.test_queue import Waiting, lengths


def test_the_oldest_text_is_always_taken() -> None:
    texts = [Waiting(500), Waiting(5), Waiting(5)]

    assert pick(texts, max_batch_tokens=100, overhead_tokens=0) == texts[:1]


def test_neighbors_in_length_are_taken_first() -> None:
    texts = [Waiting(length) for length in (10, 40, 11, 39, 9, 10)]

    assert lengths(pick(texts, max_batch_tokens=50, overhead_tokens=0)) == [9, 10, 10, 11]


def test_padding_is_accepted_where_another_batch_would_cost_more() -> None:
    texts = [Waiting(10), Waiting(30)]

    apart = pick(texts, max_batch_tokens=1000, overhead_tokens=19)
    together = pick(texts, max_batch_tokens=1000, overhead_tokens=20)

    assert (lengths(apart), lengths(together)) == ([10], [10, 30])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(50, 4000))
def test_a_batch_stays_within_budget_and_padding_share(counts: list[int], budget: int) -> None:
    texts = [Waiting(count) for count in counts]

    batch = pick(texts, budget, overhead_tokens=0)

    padded = max(lengths(batch)) * len(batch)
    assert any(text is texts[0] for text in batch)
    assert len(batch) == 1 or padded <= budget
    assert padded - sum(lengths(batch)) <= MAX_PADDING_SHARE * padded
