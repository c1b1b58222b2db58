"""A slow device with a simulated clock: who is refused, who is answered, and when."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from service.batching.forecast import Forecast
from service.batching.program import Limits, Slots
from service.batching.queue import BatchQueue
from service.batching.request import Lane
from service.errors import OverloadedError, RequestError

SECONDS_PER_TOKEN = 0.001
PATIENCE = 5.0  # as the engine's default for bulk


@dataclass(eq=False)
class Sent:
    """A request, what it was told, and when it was done."""

    lane: Lane
    num_texts: int
    sent: float
    deadline: float = 0.0
    refusal: RequestError | None = None
    missing: int = 0
    done: float = 0.0


@dataclass(eq=False)
class Waiting:
    request: Sent
    num_tokens: int
    kind: object = None

    def is_gone(self, moment: float) -> bool:
        return moment > self.request.deadline


class Simulation:
    """One device; requests are sent at their time, and batches take the time of their tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        limits = Limits(1536, 512, 65_536, bulk_share=0.25)
        self.queue = BatchQueue[Waiting, None](limits)
        self.slots = Slots(1)
        self.forecast = Forecast(self.queue, self.slots, limits)
        for num_tokens in (1536, 8, 512, 64):
            self.queue.cost.learn(num_tokens, num_tokens * SECONDS_PER_TOKEN)
        monkeypatch.setattr("service.batching.forecast.time.monotonic", lambda: self.now)

    def send(self, request: Sent, num_tokens: int) -> None:
        total = request.num_texts * num_tokens
        request.deadline = request.sent + 10
        if request.lane == "bulk":
            request.deadline += PATIENCE * self.forecast.seconds_alone("bulk", total)
        seconds_left = request.deadline - self.now
        request.refusal = self.forecast.refusal(request.lane, total, seconds_left)
        if request.refusal is None:
            request.missing = request.num_texts
            texts = [Waiting(request, num_tokens) for _ in range(request.num_texts)]
            self.queue.add(request.lane, texts)

    def run(self, arrivals: list[tuple[Sent, int]]) -> None:
        arrivals = sorted(arrivals, key=lambda arrival: arrival[0].sent)
        while arrivals or self.queue.next_lane():
            if not self.queue.next_lane():
                self.now = max(self.now, arrivals[0][0].sent)
            self._send_due(arrivals, self.now)
            batch = self.queue.claim(self.now, parts=1)
            if batch is None:
                continue
            seconds = batch.num_tokens * SECONDS_PER_TOKEN
            self.slots.begin(0, self.now, seconds)
            end = self.now + seconds
            self._send_due(arrivals, end)
            self.now = end
            self.slots.end(0)
            self.queue.learn(batch, batch.num_tokens, seconds)
            for text in batch.texts:
                text.request.missing -= 1
                text.request.done = end

    def _send_due(self, arrivals: list[tuple[Sent, int]], until: float) -> None:
        while arrivals and arrivals[0][0].sent <= until:
            request, num_tokens = arrivals.pop(0)
            self.now = max(self.now, request.sent)
            self.send(request, num_tokens)


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[Sent, int]]], None]:
    return lambda arrivals: Simulation(monkeypatch).run(arrivals)


Simulate = Callable[[list[tuple[Sent, int]]], None]


def was_answered_in_time(request: Sent) -> bool:
    return request.refusal is None and request.missing == 0 and request.done <= request.deadline


def test_256_texts_of_512_tokens_are_answered_on_a_slow_device(simulate: Simulate) -> None:
    large = Sent("bulk", 256, sent=0.0)

    simulate([(large, 512)])

    assert was_answered_in_time(large)
    assert large.done == pytest.approx(131, abs=1)


def test_beside_a_large_request_every_other_is_answered_soon(simulate: Simulate) -> None:
    large = Sent("bulk", 256, sent=0.0)
    queries = [Sent("query", 1, sent=1.0 + number) for number in range(120)]
    small = [Sent("bulk", 1, sent=5.0 + 10 * number) for number in range(12)]

    simulate([(large, 512), *((each, 20) for each in queries), *((each, 100) for each in small)])

    assert all(map(was_answered_in_time, [large, *queries, *small]))
    assert max(each.done - each.sent for each in queries) < 1.2
    assert max(each.done - each.sent for each in small) < 3


def test_a_request_of_half_the_size_does_not_wait_for_the_larger_one(simulate: Simulate) -> None:
    large, half = Sent("bulk", 200, sent=0.0), Sent("bulk", 100, sent=1.0)

    simulate([(large, 512), (half, 512)])

    assert all(map(was_answered_in_time, [large, half]))
    assert half.done < 110 < 150 < large.done


def test_too_many_large_requests_at_once_are_429_and_the_others_are_in_time(
    simulate: Simulate,
) -> None:
    requests = [Sent("bulk", 256, sent=0.1 * number) for number in range(12)]

    simulate([(each, 512) for each in requests])

    refused = [each for each in requests if each.refusal]
    assert 0 < len(refused) < 12
    assert {type(each.refusal) for each in refused} == {OverloadedError}
    assert all(was_answered_in_time(each) for each in requests if each not in refused)


def test_a_refused_request_is_answered_once_the_others_are_done(simulate: Simulate) -> None:
    first, second = ([Sent("bulk", 256, sent=sent) for _ in range(12)] for sent in (0.0, 2000.0))

    simulate([(each, 512) for each in [*first, second[0]]])

    assert was_answered_in_time(second[0])
