from dataclasses import dataclass

import pytest

from service.batching.cost import RECOVERY_BATCHES
from service.batching.program import Batch, Limits
from service.batching.queue import BatchQueue
from service.batching.request import Lane


@dataclass
class Waiting:
    num_tokens: int
    deadline: float = 10.0
    kind: str = "query"

    def is_gone(self, moment: float) -> bool:
        return moment > self.deadline


def make_queue(bulk_share: float = 0.25, budget: int = 100) -> BatchQueue[Waiting, None]:
    return BatchQueue(Limits(budget, budget, 100_000, bulk_share))


def lengths(texts: list[Waiting]) -> list[int]:
    return [text.num_tokens for text in texts]


def test_a_backlog_of_5_to_400_tokens_wastes_less_than_a_tenth() -> None:
    """The mix of the benchmark: 1,000 texts of different lengths wait, in no order."""
    waiting = make_queue(budget=2048)
    waiting.add("query", [Waiting(5 + (number * 173) % 396) for number in range(1000)])
    padded = total = 0

    while batch := waiting.take("query", overhead_tokens=25, now=0, done_at=0):
        padded += max(lengths(batch)) * len(batch)
        total += sum(lengths(batch))

    assert (padded - total) / padded < 0.1


def test_queries_go_first_and_bulk_gets_its_share() -> None:
    waiting = make_queue(bulk_share=0.25)
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


def test_a_lane_is_not_charged_while_the_other_is_empty() -> None:
    """Bulk that ran while no query waited does not count against its share."""
    waiting = make_queue()
    waiting.add("bulk", [Waiting(10)])
    waiting.charge("bulk", seconds=100)
    waiting.add("query", [Waiting(10)])

    assert waiting.next_lane() == "query"


def test_texts_that_no_client_will_wait_for_are_dropped() -> None:
    waiting = make_queue()
    waiting.add("query", [Waiting(10, deadline=4), Waiting(10), Waiting(10, deadline=4.9)])

    taken = waiting.take("query", overhead_tokens=0, now=0, done_at=5)

    assert len(taken) == 1
    assert (waiting.num_tokens, waiting.next_lane()) == (0, None)


def test_a_halved_budget_lowers_batches_and_is_lifted_again() -> None:
    waiting = make_queue(budget=100)
    waiting.add("query", [Waiting(10) for _ in range(30)])

    waiting.halve_budget()
    small = waiting.take("query", 0, 0, 0)
    batch = Batch[Waiting, None]("query", small)
    for _ in range(RECOVERY_BATCHES):
        waiting.learn(batch, padded_tokens=50, seconds=0.01)
    large = waiting.take("query", 0, 0, 0)

    assert (len(small), len(large)) == (5, 10)


@pytest.mark.parametrize(("lane", "tokens", "batches"), [("query", 150, 2), ("bulk", 180, 3)])
def test_a_new_text_waits_for_its_lane_and_for_those_before_it(
    lane: str, tokens: int, batches: int
) -> None:
    waiting = make_queue(budget=100)
    waiting.add("query", [Waiting(10) for _ in range(15)])
    waiting.add("bulk", [Waiting(30)])

    found = waiting.num_tokens_before(lane), waiting.num_batches_before(lane)  # type: ignore[arg-type]

    assert found == (tokens, batches)


@pytest.mark.parametrize(("lane", "tokens", "batches"), [("query", 0, 0), ("bulk", 30, 1)])
def test_a_prepared_batch_waits_in_its_lane(lane: Lane, tokens: int, batches: int) -> None:
    waiting = make_queue()
    waiting.add("bulk", [Waiting(30)])
    waiting.prepared = waiting.form("bulk", now=0)

    assert waiting.next_lane() == "bulk"
    assert (waiting.num_tokens, waiting.num_tokens_before(lane)) == (30, tokens)
    assert waiting.num_batches_before(lane) == batches
    assert lengths(waiting.claim(now=0, parts=1).texts) == [30]  # type: ignore[union-attr]
    assert (waiting.num_tokens, waiting.next_lane()) == (0, None)


def test_a_query_goes_before_a_prepared_bulk_batch() -> None:
    waiting = make_queue()
    waiting.add("bulk", [Waiting(30)])
    waiting.prepared = waiting.form("bulk", now=0)
    waiting.add("query", [Waiting(10)])

    claimed = [waiting.claim(now=0, parts=1) for _ in range(2)]

    assert [batch.lane for batch in claimed if batch] == ["query", "bulk"]


def test_clearing_returns_all_texts() -> None:
    waiting = make_queue()
    waiting.add("query", [Waiting(1)])
    waiting.add("bulk", [Waiting(2)])

    assert lengths(waiting.clear()) == [1, 2]
    assert waiting.num_tokens == 0


def test_a_wrong_forecast_does_not_starve_a_lane() -> None:
    """After one slow batch every text seems late; only running a batch corrects the forecast."""
    waiting = make_queue()
    waiting.add("query", [Waiting(10, deadline=4)])

    assert len(waiting.take("query", overhead_tokens=0, now=1, done_at=100)) == 1


def test_texts_of_another_kind_wait_for_a_batch_of_their_own() -> None:
    waiting = make_queue()
    texts = [Waiting(10, kind=kind) for kind in ("query", "passage", "query", "passage")]
    waiting.add("bulk", texts)

    batches = [waiting.take("bulk", overhead_tokens=100, now=0.0, done_at=0.0) for _ in range(2)]

    assert batches == [[texts[0], texts[2]], [texts[1], texts[3]]]
    assert waiting.num_tokens == 0
