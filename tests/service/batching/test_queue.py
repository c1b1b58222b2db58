from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.queue import MAX_PADDING_SHARE, Lanes, pick


@dataclass
class Waiting:
    num_tokens: int
    deadline: float = 10.0
    kind: str = "query"

    def is_gone(self, moment: float) -> bool:
        return moment > self.deadline


def lanes(bulk_share: float = 0.25, budget: int = 100) -> Lanes[Waiting]:
    return Lanes({"query": budget, "bulk": budget}, bulk_share)


def lengths(texts: list[Waiting]) -> list[int]:
    return [text.num_tokens for text in texts]


def test_the_oldest_text_is_always_taken() -> None:
    texts = [Waiting(500), Waiting(5), Waiting(5)]

    assert pick(texts, max_batch_tokens=100, overhead_tokens=0) == texts[:1]


def test_neighbours_in_length_are_taken_first() -> None:
    texts = [Waiting(length) for length in (10, 40, 11, 39, 9, 10)]

    assert lengths(pick(texts, max_batch_tokens=50, overhead_tokens=0)) == [9, 10, 10, 11]


def test_padding_is_accepted_where_a_further_batch_would_cost_more() -> None:
    texts = [Waiting(10), Waiting(30)]

    apart = pick(texts, max_batch_tokens=1000, overhead_tokens=19)
    together = pick(texts, max_batch_tokens=1000, overhead_tokens=20)

    assert (lengths(apart), lengths(together)) == ([10], [10, 30])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(50, 4000))
def test_a_batch_keeps_budget_and_padding_share(counts: list[int], budget: int) -> None:
    texts = [Waiting(count) for count in counts]

    batch = pick(texts, budget, overhead_tokens=0)

    padded = max(lengths(batch)) * len(batch)
    assert any(text is texts[0] for text in batch)
    assert len(batch) == 1 or padded <= budget
    assert padded - sum(lengths(batch)) <= MAX_PADDING_SHARE * padded


def test_a_backlog_of_5_to_400_tokens_wastes_less_than_a_tenth() -> None:
    """The mix of the benchmark: 1,000 texts wait, new ones come in no order."""
    waiting = lanes(budget=2048)
    waiting.add("query", [Waiting(5 + (number * 173) % 396) for number in range(1000)])
    padded = total = 0

    while batch := waiting.take("query", overhead_tokens=25, now=0, done_at=0):
        padded += max(lengths(batch)) * len(batch)
        total += sum(lengths(batch))

    assert (padded - total) / padded < 0.1


def test_queries_go_first_and_bulk_gets_its_share() -> None:
    waiting = lanes(bulk_share=0.25)
    for lane in ("query", "bulk"):
        waiting.add(lane, [Waiting(10) for _ in range(1000)])  # type: ignore[arg-type]
    order = []

    for _ in range(100):
        lane = waiting.next_lane()
        assert lane is not None
        order.append(lane)
        waiting.charge(lane, seconds=0.01)

    assert order[0] == "query"
    assert 20 <= order.count("bulk") <= 30


def test_a_lane_alone_is_not_charged() -> None:
    """Bulk that ran while no query waited owes nothing."""
    waiting = lanes()
    waiting.add("bulk", [Waiting(10)])
    waiting.charge("bulk", seconds=100)
    waiting.add("query", [Waiting(10)])

    assert waiting.next_lane() == "query"


def test_texts_that_nobody_will_wait_for_are_dropped() -> None:
    waiting = lanes()
    waiting.add("query", [Waiting(10, deadline=4), Waiting(10), Waiting(10, deadline=4.9)])

    taken = waiting.take("query", overhead_tokens=0, now=0, done_at=5)

    assert len(taken) == 1
    assert (waiting.num_tokens, waiting.next_lane()) == (0, None)


def test_a_limit_lowers_batches_and_is_lifted_again() -> None:
    waiting = lanes(budget=100)
    waiting.add("query", [Waiting(10) for _ in range(30)])

    waiting.limit(50)
    small = waiting.take("query", 0, 0, 0)
    waiting.limit(1000)
    large = waiting.take("query", 0, 0, 0)

    assert (len(small), len(large)) == (5, 10)


@pytest.mark.parametrize(("lane", "tokens", "batches"), [("query", 150, 2), ("bulk", 180, 3)])
def test_a_newcomer_waits_for_its_lane_and_for_those_before_it(
    lane: str, tokens: int, batches: int
) -> None:
    waiting = lanes(budget=100)
    waiting.add("query", [Waiting(10) for _ in range(15)])
    waiting.add("bulk", [Waiting(30)])

    found = waiting.num_tokens_before(lane), waiting.num_batches_before(lane)  # type: ignore[arg-type]

    assert found == (tokens, batches)


def test_clearing_hands_everything_back() -> None:
    waiting = lanes()
    waiting.add("query", [Waiting(1)])
    waiting.add("bulk", [Waiting(2)])

    assert lengths(waiting.clear()) == [1, 2]
    assert waiting.num_tokens == 0


def test_a_wrong_forecast_does_not_starve_a_lane() -> None:
    """After one freak batch all are thought to be late; one has to run to show otherwise."""
    waiting = lanes()
    waiting.add("query", [Waiting(10, deadline=4)])

    assert len(waiting.take("query", overhead_tokens=0, now=1, done_at=100)) == 1


def test_texts_of_another_kind_wait_for_a_batch_of_their_own() -> None:
    waiting = lanes()
    texts = [Waiting(10, kind=kind) for kind in ("query", "passage", "query", "passage")]
    waiting.add("bulk", texts)

    batches = [waiting.take("bulk", overhead_tokens=100, now=0.0, done_at=0.0) for _ in range(2)]

    assert batches == [[texts[0], texts[2]], [texts[1], texts[3]]]
    assert waiting.num_tokens == 0
