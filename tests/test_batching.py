import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Answer, Batcher, Item
from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
)

TEN_SECONDS = 10.0  # long enough never to pass


class Gate:
    """Upper-cases batches, and notes each; none is finished before `open`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._has_begun = threading.Event()
        self._is_open = threading.Event()

    def __call__(self, batch: list[str]) -> list[str]:
        self.batches.append(batch)
        self._has_begun.set()
        assert self._is_open.wait(TEN_SECONDS)
        return [payload.upper() for payload in batch]

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._has_begun.wait, TEN_SECONDS)

    def open(self) -> None:
        self._is_open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def ask(
    batcher: Batcher[str, str],
    payloads: str | Sequence[str],
    num_tokens: int = 1,
    timeout_seconds: float = TEN_SECONDS,
) -> "asyncio.Task[list[Answer[str]]]":
    """Begin one request of an item a payload, all of one length."""
    items = [Item(payload, num_tokens) for payload in payloads]
    return asyncio.create_task(batcher.submit(items, timeout_seconds))


def run(
    scenario: Callable[[Batcher[str, str]], Awaitable[None]],
    run_batch: Callable[[list[str]], list[str]],
    *,
    max_batch_tokens: int = 100,
    max_waiting_tokens: int = 100,
) -> None:
    """Play a scenario with a batcher of its own."""
    batcher = Batcher(
        run_batch, max_batch_tokens=max_batch_tokens, max_waiting_tokens=max_waiting_tokens
    )

    async def play() -> None:
        await scenario(batcher)

    asyncio.run(play())
    batcher.close()


def results(answers: Sequence[Answer[str]]) -> list[str]:
    return [answer.result for answer in answers]


def test_answers_come_in_the_order_of_the_items(gate: Gate) -> None:
    gate.open()

    async def scenario(batcher: Batcher[str, str]) -> None:
        assert results(await ask(batcher, "cab")) == ["C", "A", "B"]

    run(scenario, gate)


def test_what_comes_while_a_batch_runs_is_one_batch_first_come_first_served(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests += [ask(batcher, "b"), ask(batcher, "cd"), ask(batcher, "e")]
        await asyncio.sleep(0)
        gate.open()

        answers = [results(await request) for request in requests]

        assert answers == [["A"], ["B"], ["C", "D"], ["E"]]

    run(scenario, gate)

    assert gate.batches == [["a"], ["b", "c", "d", "e"]]


def test_an_item_longer_than_a_batch_runs_alone(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        first = ask(batcher, "a")
        await gate.begun()
        requests = [first, ask(batcher, "b"), ask(batcher, "C", num_tokens=50), ask(batcher, "d")]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests)

    run(scenario, gate, max_batch_tokens=20)

    assert gate.batches == [["a"], ["b"], ["C"], ["d"]]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_a_batch_is_within_its_padded_tokens_and_as_full_as_can_be(lengths: list[int]) -> None:
    gate = Gate()

    async def scenario(batcher: Batcher[str, str]) -> None:
        first = ask(batcher, ["0"])
        await gate.begun()
        requests = [first, *(ask(batcher, [str(length)], length) for length in lengths)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests)

    run(scenario, gate, max_batch_tokens=64, max_waiting_tokens=2000)

    batches = [[int(payload) for payload in batch] for batch in gate.batches[1:]]
    assert sum(batches, []) == lengths
    assert all(len(batch) == 1 or max(batch) * len(batch) <= 64 for batch in batches)
    for batch, following in zip(batches, batches[1:], strict=False):
        assert max([*batch, following[0]]) * (len(batch) + 1) > 64


def test_waiting_tokens_are_those_that_no_batch_has_taken(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        requests = [ask(batcher, "a", num_tokens=7)]
        await gate.begun()
        requests.append(ask(batcher, "bc", num_tokens=20))
        await asyncio.sleep(0)
        while_running = batcher.waiting_tokens
        gate.open()
        await asyncio.gather(*requests)

        assert (while_running, batcher.waiting_tokens) == (40, 0)

    run(scenario, gate)


@pytest.mark.parametrize(("waiting", "retry_after"), [(1, 1), (30, 30), (90, 60)])
def test_a_full_queue_refuses_and_tells_when_to_come_back(
    gate: Gate, waiting: int, retry_after: int
) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests.append(ask(batcher, "b", num_tokens=waiting))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal:
            await ask(batcher, "c", num_tokens=100)
        gate.open()
        await asyncio.gather(*requests)

        # No batch has been timed yet: one token a second is assumed.
        assert refusal.value.retry_after_seconds == retry_after

    run(scenario, gate)

    assert gate.batches == [["a"], ["b"]]


def test_a_queue_that_has_emptied_is_open_again(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests.append(ask(batcher, "b", num_tokens=90))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await ask(batcher, "c", num_tokens=90)
        gate.open()
        await asyncio.gather(*requests)

        assert results(await ask(batcher, "c", num_tokens=90)) == ["C"]

    run(scenario, gate)


def test_an_empty_queue_takes_a_request_over_its_limit(gate: Gate) -> None:
    gate.open()

    async def scenario(batcher: Batcher[str, str]) -> None:
        assert results(await ask(batcher, "abc", num_tokens=500)) == ["A", "B", "C"]

    run(scenario, gate)


def test_what_waits_past_its_deadline_is_dropped_before_it_runs(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        first = ask(batcher, "a")
        await gate.begun()
        with pytest.raises(DeadlineExceededError):
            await ask(batcher, "bc", timeout_seconds=0.001)
        last = ask(batcher, "d")
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, last)

    run(scenario, gate)

    assert gate.batches == [["a"], ["d"]]


def test_a_deadline_passed_while_tokenizing_is_told_without_a_negative_time(gate: Gate) -> None:
    """A request of 64 long queries was told `no answer within -540 ms`."""

    async def scenario(batcher: Batcher[str, str]) -> None:
        with pytest.raises(DeadlineExceededError) as refusal:
            await ask(batcher, "a", timeout_seconds=-0.54)
        gate.open()

        assert "-" not in str(refusal.value)

    run(scenario, gate)


def test_a_request_that_has_gone_is_dropped_before_it_runs(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        first, gone = ask(batcher, "a"), ask(batcher, "b", num_tokens=90)
        await gate.begun()
        gone.cancel()
        last = ask(batcher, "c")
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, last)

    run(scenario, gate, max_batch_tokens=8)

    assert gate.batches == [["a"], ["c"]]


def fail(batch: list[str]) -> list[str]:
    raise RuntimeError(f"cannot read {batch}")


def answer_too_few(batch: list[str]) -> list[str]:
    return batch[1:]


@pytest.mark.parametrize("bug", [fail, answer_too_few])
def test_a_failed_batch_is_told_and_the_next_one_works(
    bug: Callable[[list[str]], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """A batch of too few results ended the owner thread: all later requests got a 504."""

    def run_batch(batch: list[str]) -> list[str]:
        return bug(batch) if batch[0].startswith("secret") else batch

    async def scenario(batcher: Batcher[str, str]) -> None:
        with pytest.raises(BatchFailedError) as failure:
            await ask(batcher, ["secret question"])

        assert "secret" not in str(failure.value)
        assert results(await ask(batcher, "b")) == ["b"]

    run(scenario, run_batch)

    assert "batch of 1 failed" in caplog.text
    assert "secret" not in caplog.text


def test_close_runs_what_waits_then_refuses(gate: Gate) -> None:
    async def scenario(batcher: Batcher[str, str]) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests.append(ask(batcher, "b"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        gate.open()
        await closing

        assert [results(await request) for request in requests] == [["A"], ["B"]]
        with pytest.raises(NotReadyError):
            await ask(batcher, "c")

    run(scenario, gate)


def test_close_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    batcher: Batcher[Any, Any] = Batcher(list, max_batch_tokens=1, max_waiting_tokens=1)
    started = set(threading.enumerate()) - before

    batcher.close()

    assert [thread.name for thread in started] == ["batcher"]
    assert not any(thread.is_alive() for thread in started)
