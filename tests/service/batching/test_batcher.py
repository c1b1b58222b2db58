import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.batcher import Batcher
from service.batching.cost import MIN_BATCH_TOKENS
from service.batching.program import Fault, Limits
from service.batching.request import Answer, Lane
from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    DeviceBrokenError,
    NotReadyError,
    OverloadedError,
    ShortDeadlineError,
)

TEN_SECONDS = 10.0  # never reached
Word = tuple[str, int]  # a text, and its number of tokens
Words = Batcher[Word, list[str], str]


class BadWordError(Exception):
    """Raised by the program at a bad word."""


class Gate:
    """Upper-cases batches and records each one; none finishes before `open` is called."""

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


@dataclass
class WordProgram:
    """A program of plain functions; every exception is the same fault."""

    prepare_words: Callable[[list[str]], list[str]]
    run: Callable[[list[str]], list[str]]
    fault: Fault
    num_slots: int

    def num_tokens(self, payload: Word) -> int:
        return payload[1]

    def kind(self, payload: Word) -> object:
        return None

    def prepare(self, payloads: list[Word]) -> list[str]:
        return self.prepare_words([word for word, _ in payloads])

    def classify(self, error: Exception) -> Fault:
        return self.fault

    def observe(self, *figures: object) -> None:
        pass


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def ask(
    batcher: Words,
    payloads: str | Sequence[str],
    num_tokens: int = 1,
    timeout_seconds: float = TEN_SECONDS,
    lane: Lane = "query",
) -> "asyncio.Task[list[Answer[str]]]":
    """Start one request of texts of equal length."""
    texts = [(payload, num_tokens) for payload in payloads]
    return asyncio.create_task(batcher.submit(texts, lane, monotonic() + timeout_seconds))


def run(
    scenario: Callable[[Words], Awaitable[None]],
    run_batch: Callable[[list[str]], list[str]],
    *,
    max_batch_tokens: int = 100,
    max_bulk_batch_tokens: int = 100,
    max_waiting_tokens: int = 1000,
    fault: Fault = "text",
    prepare: Callable[[list[str]], list[str]] = list,
    num_slots: int = 1,
) -> Words:
    """Run a scenario with a batcher of its own."""
    limits = Limits(max_batch_tokens, max_bulk_batch_tokens, max_waiting_tokens, bulk_share=0.25)
    program = WordProgram(prepare, run_batch, fault, num_slots)
    batcher = Words(program, limits)

    async def play() -> None:
        await scenario(batcher)

    asyncio.run(play())
    batcher.close()
    return batcher


def results(answers: Sequence[Answer[str]]) -> list[str]:
    return [answer.result for answer in answers]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def refuse(word: str) -> Callable[[list[str]], list[str]]:
    """Make a program that fails every batch that holds a word."""

    def run_batch(batch: list[str]) -> list[str]:
        if word in batch:
            raise BadWordError(word)
        return [payload.upper() for payload in batch]

    return run_batch


def recording(prepared: list[list[str]]) -> Callable[[list[str]], list[str]]:
    """Make a preparation that records each batch, sorted."""

    def prepare(batch: list[str]) -> list[str]:
        prepared.append(sorted(batch))
        return batch

    return prepare


def test_answers_come_in_the_order_of_the_texts(gate: Gate) -> None:
    gate.open()

    async def scenario(batcher: Words) -> None:
        texts = [("c", 9), ("a", 1), ("b", 5)]
        answers = await batcher.submit(texts, "query", monotonic() + TEN_SECONDS)
        assert results(answers) == ["C", "A", "B"]

    run(scenario, gate)


def test_texts_that_arrive_while_a_batch_runs_form_one_batch(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests += [ask(batcher, "b"), ask(batcher, "cd"), ask(batcher, "e")]
        await asyncio.sleep(0)
        gate.open()

        answers = [results(await request) for request in requests]

        assert answers == [["A"], ["B"], ["C", "D"], ["E"]]

    run(scenario, gate)

    assert [sorted(batch) for batch in gate.batches] == [["a"], ["b", "c", "d", "e"]]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_every_text_runs_once_and_batches_stay_within_their_token_limit(lengths: list[int]) -> None:
    gate = Gate()

    async def scenario(batcher: Words) -> None:
        first = ask(batcher, ["0"])
        await gate.begun()
        requests = [first, *(ask(batcher, [str(length)], length) for length in lengths)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests)

    run(scenario, gate, max_batch_tokens=64, max_waiting_tokens=2000)

    batches = [[int(payload) for payload in batch] for batch in gate.batches[1:]]
    assert sorted(sum(batches, [])) == sorted(lengths)
    assert all(max(batch) * len(batch) <= 64 for batch in batches)


def test_two_slots_share_the_waiting_texts_and_run_at_once() -> None:
    both_run = threading.Barrier(2, timeout=TEN_SECONDS)
    batches: list[list[str]] = []

    def run_batch(batch: list[str]) -> list[str]:
        both_run.wait()
        batches.append(batch)
        return [payload.upper() for payload in batch]

    async def scenario(batcher: Words) -> None:
        assert results(await ask(batcher, "abcd", num_tokens=10)) == list("ABCD")

    run(scenario, run_batch, num_slots=2)

    assert sorted(map(len, batches)) == [2, 2]


def test_consecutive_requests_stay_with_one_slot() -> None:
    owners: set[int] = set()

    def run_batch(batch: list[str]) -> list[str]:
        owners.add(threading.get_ident())
        return batch

    async def scenario(batcher: Words) -> None:
        await asyncio.sleep(0.05)  # both slots wait now
        for word in "abcdefgh":
            await ask(batcher, word)
            await until(lambda: batcher.is_idle("query"))
            await asyncio.sleep(0.05)  # the slot is idle, and its thread begins to wait

    run(scenario, run_batch, num_slots=2)

    assert len(owners) == 1


def test_a_failed_batch_in_one_slot_does_not_stop_the_others() -> None:
    async def scenario(batcher: Words) -> None:
        answers = await asyncio.gather(
            *(ask(batcher, word) for word in "abcdefgh"), return_exceptions=True
        )
        failed = [isinstance(answer, BatchFailedError) for answer in answers]
        assert failed == [word == "e" for word in "abcdefgh"]

    run(scenario, refuse("e"), num_slots=3)


def test_a_full_batch_is_prepared_while_another_runs(gate: Gate) -> None:
    prepared: list[list[str]] = []

    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests += [ask(batcher, "bc", num_tokens=50), ask(batcher, "d")]
        await until(lambda: ["b", "c"] in prepared)
        still_running = gate.batches == [["a"]]
        gate.open()
        await asyncio.gather(*requests)

        assert still_running

    run(scenario, gate, prepare=recording(prepared))

    assert [sorted(batch) for batch in gate.batches] == [["a"], ["b", "c"], ["d"]]


def test_a_batch_with_room_is_not_prepared_early(gate: Gate) -> None:
    prepared: list[list[str]] = []

    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests.append(ask(batcher, "b", num_tokens=50))
        await asyncio.sleep(0.02)
        requests.append(ask(batcher, "c", num_tokens=50))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests)

    run(scenario, gate, prepare=recording(prepared), max_batch_tokens=101)

    assert prepared == [["a"], ["b", "c"]]


def test_queries_go_before_bulk_even_when_a_bulk_batch_is_prepared(gate: Gate) -> None:
    prepared: list[list[str]] = []

    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a", lane="bulk")]
        await gate.begun()
        requests.append(ask(batcher, "12", num_tokens=100, lane="bulk"))
        await until(lambda: ["1"] in prepared and batcher.waiting_tokens == 200)
        requests.append(ask(batcher, "q"))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests)

    run(scenario, gate, prepare=recording(prepared))

    assert [batch[0] for batch in gate.batches[:2]] == ["a", "q"]


def test_bulk_gets_its_share_while_queries_keep_coming() -> None:
    lanes: list[str] = []

    def run_batch(batch: list[str]) -> list[str]:
        lanes.append(batch[0])
        threading.Event().wait(0.001)
        return batch

    async def scenario(batcher: Words) -> None:
        bulk = ask(batcher, "b" * 10, num_tokens=100, lane="bulk")
        queries = ask(batcher, "q" * 200, num_tokens=100)
        await asyncio.gather(bulk, queries)

    run(scenario, run_batch, max_waiting_tokens=100_000)

    last_bulk = max(position for position, lane in enumerate(lanes) if lane == "b")
    assert lanes.count("b") == 10
    assert last_bulk < 100  # a quarter of the time would be 40 batches


@pytest.mark.parametrize("num_waiting_tokens", [950, 100_000])
def test_a_full_queue_refuses_and_says_when_to_retry(gate: Gate, num_waiting_tokens: int) -> None:
    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        batcher.cost.seconds_per_token, batcher.cost.overhead_seconds = 0.001, 0.0
        hour = 3600.0
        requests.append(ask(batcher, "b", num_waiting_tokens, timeout_seconds=hour))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal:
            await ask(batcher, "c", num_tokens=1000, timeout_seconds=hour)
        gate.open()
        await asyncio.gather(*requests)

        expected = {950: 1, 100_000: 60}[num_waiting_tokens]
        assert refusal.value.retry_after_seconds == expected

    run(scenario, gate)


def test_a_request_that_would_be_late_is_refused_at_once(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        batcher.cost.seconds_per_token = 0.1
        requests.append(ask(batcher, "b", num_tokens=100, timeout_seconds=100))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal:
            await ask(batcher, "c", timeout_seconds=5)
        gate.open()
        await asyncio.gather(*requests)

        assert refusal.value.retry_after_seconds == 11  # 100 tokens and one batch's overhead

    run(scenario, gate)


def test_an_empty_queue_takes_a_request_over_its_limit(gate: Gate) -> None:
    gate.open()

    async def scenario(batcher: Words) -> None:
        assert results(await ask(batcher, "abc", num_tokens=5000)) == ["A", "B", "C"]

    run(scenario, gate)


def test_a_request_far_above_the_queue_s_limit_is_served_and_others_take_turns(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        large = ask(batcher, "a" * 100, num_tokens=100, lane="bulk")
        await gate.begun()
        small = ask(batcher, "b", num_tokens=100, lane="bulk")
        query = ask(batcher, "q")
        await asyncio.sleep(0)
        waiting_tokens = batcher.waiting_tokens
        gate.open()
        await asyncio.gather(large, small, query)

        assert waiting_tokens <= 401  # a prepared batch, two slices that are ready, the others
        assert len(results(large.result())) == 100

    run(scenario, gate, max_waiting_tokens=500)

    order = [batch[0] for batch in gate.batches]
    assert order[:2] == ["a", "q"]
    assert order.index("b") <= 5
    assert order.count("a") == 100


def test_a_large_request_keeps_every_slot_at_work() -> None:
    all_run = threading.Barrier(4, timeout=TEN_SECONDS)
    batches: list[list[str]] = []

    def run_batch(batch: list[str]) -> list[str]:
        all_run.wait()
        batches.append(batch)
        return batch

    async def scenario(batcher: Words) -> None:
        await ask(batcher, "a" * 16, num_tokens=100, lane="bulk")

    run(scenario, run_batch, num_slots=4)

    assert [len(batch) for batch in batches] == [1] * 16


def test_a_client_that_leaves_costs_no_further_slice(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        leaving = ask(batcher, "a" * 100, num_tokens=100, lane="bulk")
        await gate.begun()
        staying = ask(batcher, "b" * 3, num_tokens=100, lane="bulk")
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.open()
        await staying

    run(scenario, gate)

    assert gate.batches == [["a"], ["b"], ["b"], ["b"]]


def test_a_broken_device_fails_the_slices_that_wait(gate: Gate) -> None:
    def run_batch(batch: list[str]) -> list[str]:
        gate(batch)
        raise RuntimeError("CUDA error")

    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a", lane="bulk")]
        await gate.begun()
        requests.append(ask(batcher, "b" * 100, num_tokens=100, lane="bulk"))
        await asyncio.sleep(0)
        gate.open()
        with pytest.raises(DeviceBrokenError):
            await requests[1]
        await asyncio.gather(*requests, return_exceptions=True)

    run(scenario, run_batch, fault="device")


def test_closing_runs_all_slices_of_a_large_request(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        large = ask(batcher, "a" * 50, num_tokens=100, lane="bulk")
        await gate.begun()
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        gate.open()

        assert results(await large) == ["A"] * 50
        await closing

    run(scenario, gate)


def test_a_short_deadline_on_an_idle_device_is_504_at_once(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        batcher.cost.learn(100, 10.0)
        with pytest.raises(ShortDeadlineError):
            await ask(batcher, "a" * 100, num_tokens=100, timeout_seconds=5)

    run(scenario, gate)

    assert gate.batches == []


def test_a_text_past_its_deadline_is_dropped_before_it_runs(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        first = ask(batcher, "a")
        await gate.begun()
        batcher.cost.seconds_per_token = batcher.cost.overhead_seconds = 0.0
        with pytest.raises(DeadlineExceededError):
            await ask(batcher, "bc", timeout_seconds=0.01)
        last = ask(batcher, "d")
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, last)

    run(scenario, gate)

    assert gate.batches == [["a"], ["d"]]


def test_a_client_that_leaves_costs_no_forward_pass(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        first = ask(batcher, "a")
        await gate.begun()
        leaving, staying = ask(batcher, "b"), ask(batcher, "c")
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, staying)

    run(scenario, gate)

    assert gate.batches == [["a"], ["c"]]


def test_a_client_that_leaves_a_prepared_batch_costs_no_forward_pass(gate: Gate) -> None:
    prepared: list[list[str]] = []

    async def scenario(batcher: Words) -> None:
        first = ask(batcher, "a")
        await gate.begun()
        leaving, staying = ask(batcher, "b", num_tokens=50), ask(batcher, "c", num_tokens=50)
        await until(lambda: ["b", "c"] in prepared and batcher.waiting_tokens == 100)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, staying)

    run(scenario, gate, prepare=recording(prepared))

    assert gate.batches == [["a"], ["c"]]


def test_of_32_texts_the_bad_one_fails_alone() -> None:
    words = [chr(ord("a") + number) for number in range(26)] + list("012345")

    async def scenario(batcher: Words) -> None:
        answers = await asyncio.gather(
            *(ask(batcher, word) for word in words), return_exceptions=True
        )
        failed = [
            word
            for word, answer in zip(words, answers, strict=True)
            if isinstance(answer, BatchFailedError)
        ]
        assert failed == ["q"]
        assert results(await ask(batcher, "next")) == list("NEXT")

    run(scenario, refuse("q"))


def test_a_failure_names_the_exception_and_never_the_text() -> None:
    async def scenario(batcher: Words) -> None:
        with pytest.raises(BatchFailedError) as failure:
            await ask(batcher, ["secret"])
        assert str(failure.value) == "a text cannot be encoded: BadWordError"
        assert batcher.last_batch_failed

    run(scenario, refuse("secret"))


def test_out_of_memory_halves_the_budget_and_every_text_is_answered() -> None:
    def run_batch(batch: list[str]) -> list[str]:
        if len(batch) > 4:
            raise MemoryError
        return [payload.upper() for payload in batch]

    async def scenario(batcher: Words) -> None:
        answers = await ask(batcher, "abcdefghijklmnop", num_tokens=6)
        assert results(answers) == list("ABCDEFGHIJKLMNOP")
        assert batcher.batch_token_budget < 100

    batcher = run(scenario, run_batch, fault="memory")

    assert batcher.batch_token_budget >= MIN_BATCH_TOKENS


def test_a_halved_budget_grows_back_after_many_good_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.batching.cost.RECOVERY_BATCHES", 3)

    def run_batch(batch: list[str]) -> list[str]:
        if "x" in batch:
            raise MemoryError
        return batch

    async def scenario(batcher: Words) -> None:
        with pytest.raises(BatchFailedError, match="not enough memory"):
            await ask(batcher, "x")
        halved = batcher.batch_token_budget
        for word in "abcdef":
            await ask(batcher, word)
        assert (halved, batcher.batch_token_budget) == (50, 100)

    run(scenario, run_batch, fault="memory")


def test_a_broken_device_fails_all_requests_and_accepts_no_more(gate: Gate) -> None:
    def run_batch(batch: list[str]) -> list[str]:
        gate(batch)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests += [ask(batcher, "b"), ask(batcher, "c", lane="bulk")]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*requests, return_exceptions=True)

        assert [type(answer) for answer in answers] == [DeviceBrokenError] * 3
        assert batcher.is_broken
        with pytest.raises(NotReadyError):
            await ask(batcher, "d")

    run(scenario, run_batch, fault="device")


def test_a_program_that_returns_too_few_results_leaves_no_request_waiting() -> None:
    async def scenario(batcher: Words) -> None:
        with pytest.raises(DeviceBrokenError):
            await ask(batcher, "ab")

    run(scenario, lambda batch: batch[:1])


def test_a_failed_preparation_is_a_failed_batch() -> None:
    def prepare(batch: list[str]) -> list[str]:
        return refuse("b")(batch)

    async def scenario(batcher: Words) -> None:
        answers = await asyncio.gather(ask(batcher, "a"), ask(batcher, "b"), return_exceptions=True)
        assert isinstance(answers[1], BatchFailedError)
        assert not isinstance(answers[0], BaseException)

    run(scenario, list, prepare=prepare)


def test_closing_runs_the_waiting_texts_and_refuses_new_ones(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        requests = [ask(batcher, "a")]
        await gate.begun()
        requests += [ask(batcher, "b"), ask(batcher, "c", lane="bulk")]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        late = [ask(batcher, "d")]
        while not (late[-1].done() and isinstance(late[-1].exception(), NotReadyError)):
            late.append(ask(batcher, "d"))
            await asyncio.sleep(0.001)
        gate.open()
        answers = await asyncio.gather(*requests)
        await closing
        await asyncio.gather(*late, return_exceptions=True)

        assert [results(answer) for answer in answers] == [["A"], ["B"], ["C"]]

    before = set(threading.enumerate())
    run(scenario, gate)

    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if name.startswith("batch-")]


def test_only_a_batch_that_runs_can_be_stuck(gate: Gate) -> None:
    async def scenario(batcher: Words) -> None:
        before = batcher.is_stuck(0)
        request = ask(batcher, "a")
        await gate.begun()
        await until(lambda: batcher.is_stuck(0))
        is_stuck_within_a_minute = batcher.is_stuck(60)
        gate.open()
        await request
        await until(lambda: not batcher.is_stuck(0))

        assert (before, is_stuck_within_a_minute) == (False, False)

    run(scenario, gate)


def test_an_error_that_the_program_returns_is_that_of_one_text_alone(gate: Gate) -> None:
    def run_batch(batch: list[str]) -> list[str]:
        results = [NotReadyError(word) if word == "B" else word for word in gate(batch)]
        return results  # type: ignore[return-value]

    async def scenario(batcher: Words) -> None:
        tasks = [ask(batcher, "1")]
        await gate.begun()
        tasks += [ask(batcher, word) for word in ("a", "b", "cb", "d")]
        await asyncio.sleep(0)
        gate.open()
        _, *found = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(each) for each in found] == [list, NotReadyError, NotReadyError, list]
        assert batcher.last_batch_failed

    run(scenario, run_batch)

    assert gate.batches[1:] == [["a", "b", "c", "b", "d"]]  # none runs twice
