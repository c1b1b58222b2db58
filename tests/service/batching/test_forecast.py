"""Who is refused, and with which status: by a fake clock, without threads."""

from dataclasses import dataclass

import pytest

from service.batching.forecast import Forecast
from service.batching.program import Limits, Slots
from service.batching.queue import BatchQueue
from service.batching.request import Lane
from service.errors import OverloadedError, RequestError, ShortDeadlineError

NOW = 1000.0
LANES = pytest.mark.parametrize("lane", ["query", "bulk"])


@dataclass
class Waiting:
    num_tokens: int
    kind: object = None

    def is_gone(self, moment: float) -> bool:
        return False


class Device:
    """A device that takes 1 ms for a token; its batches have at most 100."""

    def __init__(self, num_slots: int = 1, max_waiting_tokens: int = 1000) -> None:
        limits = Limits(100, 100, max_waiting_tokens, bulk_share=0.25)
        self.queue = BatchQueue[Waiting, None](limits)
        self.slots = Slots(num_slots)
        self.forecast = Forecast(self.queue, self.slots, limits)
        for _ in range(3):
            self.queue.cost.learn(100, 0.1)
            self.queue.cost.learn(10, 0.01)

    def add(self, lane: Lane, num_tokens: int) -> None:
        self.queue.add(lane, [Waiting(10) for _ in range(num_tokens // 10)])

    def run_batch(self, seconds: float) -> None:
        self.slots.begin(self.slots.idle[0], NOW, seconds)

    def refusal(
        self, lane: Lane, num_tokens: int, timeout_seconds: float, own: float = 0, waited: float = 0
    ) -> RequestError | None:
        seconds_left = timeout_seconds - own - waited
        return self.forecast.refusal(lane, num_tokens, seconds_left, own, waited)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.batching.forecast.time.monotonic", lambda: NOW)


@LANES
def test_an_idle_device_takes_a_request_of_any_size_that_has_the_time(lane: Lane) -> None:
    assert Device().refusal(lane, 100_000, timeout_seconds=101) is None


@LANES
@pytest.mark.parametrize(("num_tokens", "timeout_seconds"), [(100_000, 99), (10, 0.001), (1, 0)])
def test_on_an_idle_device_a_deadline_that_is_too_short_is_504_and_never_429(
    lane: Lane, num_tokens: int, timeout_seconds: float
) -> None:
    refusal = Device().refusal(lane, num_tokens, timeout_seconds)

    assert isinstance(refusal, ShortDeadlineError)
    assert refusal.status == 504


def test_a_short_deadline_says_what_the_request_would_take() -> None:
    device = Device()

    query, bulk = (device.refusal(lane, 2000, 1.0) for lane in ("query", "bulk"))  # type: ignore[arg-type]

    assert "takes about 2 s even on an idle device: set timeout_ms to 30" in str(query)
    assert "takes about 2 s even on an idle device: leave timeout_ms out" in str(bulk)


@LANES
@pytest.mark.parametrize(
    ("timeout_seconds", "stated"), [(0.05, "0.12"), (0.11, "0.12"), (0.1234, "0.1234")]
)
def test_a_short_deadline_names_the_time_of_all_own_work_never_less_than_the_timeout(
    lane: Lane, timeout_seconds: float, stated: str
) -> None:
    """The request was tokenized for 104 ms, and needs 20 ms on the device."""
    refusal = Device().refusal(lane, 20, timeout_seconds, own=0.104)

    assert isinstance(refusal, ShortDeadlineError)
    assert f"takes about {stated} s even on an idle device" in str(refusal)


@LANES
def test_own_work_beside_the_work_of_others_proves_no_deadline_too_short(lane: Lane) -> None:
    """Tokenizing takes longer while the device or other threads use the processor."""
    device = Device()
    device.run_batch(seconds=0.5)

    assert isinstance(device.refusal(lane, 20, 0.11, own=0.104), OverloadedError)


@LANES
@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("waited", [0.06, 0.2])
def test_a_deadline_that_was_spent_on_waiting_for_others_is_429(
    lane: Lane, is_busy: bool, waited: float
) -> None:
    device = Device()
    if is_busy:
        device.run_batch(seconds=1.5)

    refusal = device.refusal(lane, 20, timeout_seconds=0.1, own=0.03, waited=waited)

    assert isinstance(refusal, OverloadedError)
    assert refusal.retry_after_seconds == (2 if is_busy else 1)


@LANES
def test_the_handover_between_threads_is_not_the_work_of_others(lane: Lane) -> None:
    refusal = Device().refusal(lane, 20, timeout_seconds=0.1, own=0.079, waited=0.002)

    assert isinstance(refusal, ShortDeadlineError)


@LANES
def test_a_wrong_forecast_is_tried_on_an_idle_device(lane: Lane) -> None:
    """One batch that took an hour makes every request look late; the next batch corrects it."""
    device = Device()
    device.queue.cost.learn(100, 3600.0)

    assert device.forecast.seconds_alone(lane, 10) > 1
    assert device.refusal(lane, 10, timeout_seconds=1) is None


@LANES
def test_a_device_that_became_slower_is_learned(lane: Lane) -> None:
    device = Device()
    for _ in range(200):
        device.queue.cost.learn(100, 1.0)

    assert isinstance(device.refusal(lane, 1000, timeout_seconds=5), ShortDeadlineError)


@LANES
def test_the_work_of_others_is_429(lane: Lane) -> None:
    device = Device()
    device.run_batch(seconds=0.5)
    device.add(lane, 300)

    refusal = device.refusal(lane, 10, timeout_seconds=1.0)

    assert isinstance(refusal, OverloadedError)
    assert refusal.retry_after_seconds == 1
    assert device.refusal(lane, 10, timeout_seconds=2.0) is None


@LANES
def test_a_deadline_too_short_even_without_the_work_of_others_is_504(lane: Lane) -> None:
    device = Device()
    device.run_batch(seconds=0.5)

    assert isinstance(device.refusal(lane, 2000, timeout_seconds=1.0), ShortDeadlineError)


@LANES
def test_a_full_queue_is_429_whatever_the_deadline(lane: Lane) -> None:
    device = Device(max_waiting_tokens=100)
    device.run_batch(seconds=0.0)
    device.add(lane, 60)

    assert isinstance(device.refusal(lane, 50, timeout_seconds=3600), OverloadedError)
    assert device.refusal(lane, 40, timeout_seconds=3600) is None


def test_a_large_request_of_another_does_not_fill_the_queue() -> None:
    device = Device(max_waiting_tokens=1000)
    device.run_batch(seconds=0.1)
    device.add("bulk", 100_000)

    assert device.refusal("bulk", 10, timeout_seconds=1) is None
    assert device.refusal("query", 10, timeout_seconds=1) is None
    assert isinstance(device.refusal("bulk", 50_000, timeout_seconds=60), OverloadedError)


def test_bulk_in_the_queue_refuses_no_query() -> None:
    device = Device(max_waiting_tokens=1000)
    device.run_batch(seconds=0.0)
    for _ in range(10):
        device.add("bulk", 100)

    assert isinstance(device.refusal("bulk", 10, timeout_seconds=60), OverloadedError)
    assert device.refusal("query", 10, timeout_seconds=1) is None


@LANES
def test_a_batch_in_preparation_is_waited_for_like_one_in_the_queue(lane: Lane) -> None:
    device = Device()
    device.run_batch(seconds=0.0)
    device.add(lane, 100)
    before = device.forecast.wait_seconds(lane), device.queue.num_tokens

    device.queue.begin_preparation(lane, NOW)
    during = device.forecast.wait_seconds(lane), device.queue.num_tokens
    device.queue.end_preparation()
    after = device.forecast.wait_seconds(lane), device.queue.num_tokens

    assert before == during == after
    assert before[0] > 0


def test_several_slots_share_a_large_request_and_what_waits() -> None:
    device = Device(num_slots=2)

    assert device.forecast.seconds_alone("bulk", 1000) == pytest.approx(0.5)
    assert device.forecast.seconds_alone("bulk", 50) == pytest.approx(0.05)
    assert device.refusal("bulk", 100_000, timeout_seconds=51) is None
    assert isinstance(device.refusal("bulk", 100_000, timeout_seconds=49), ShortDeadlineError)
