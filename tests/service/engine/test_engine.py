import asyncio
import copy
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from torch import Tensor

from service.batching import forecast
from service.batching.program import Limits
from service.engine.engine import Engine
from service.engine.outcome import EncodeOutcome, SearchOutcome
from service.engine.page import Page
from service.errors import (
    BatchFailedError,
    DeadlineExceededError,
    DeviceBrokenError,
    InvalidEmbeddingError,
    NotReadyError,
    OverloadedError,
    ShortDeadlineError,
)
from service.retrieval.encoder.batches import PaddedBatch, Role, TokenizedText
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import open_current
from service.retrieval.generation.manifest import Canary
from service.retrieval.searcher import Searcher
from service.telemetry.metrics import STAGES, Metrics
from tests.support.fake_runtime import FakeRuntime

QUESTIONS = ["capital of Kenya", "Was kocht auf einem Berg?", "chai inakua wapi?"]
LIMITS = Limits(2048, 512, 65_536, 0.25)
SMALL_LIMITS = Limits(64, 64, 128, 0.25)


def make_engine(
    encoder: Encoder,
    index: Path,
    limits: Limits = LIMITS,
    query_cache_entries: int = 0,
    metrics: Metrics | None = None,
) -> Engine:
    searcher = Searcher(encoder, open_current(index))
    return Engine(searcher, metrics or Metrics(), limits, query_cache_entries)


@pytest.fixture(scope="module")
def engine(tiny_encoder: Encoder, tiny_index: Path) -> Iterator[Engine]:
    engine = make_engine(tiny_encoder, tiny_index)
    yield engine
    engine.close()


@pytest.fixture
def fake(tiny_encoder: Encoder) -> Encoder:
    """Make an encoder of the tiny tokenizer and a runtime without weights."""
    encoder = copy.copy(tiny_encoder)
    encoder.runtime = FakeRuntime(encoder.embedding_dim)
    return encoder


def runtime(engine: Engine) -> FakeRuntime:
    fake = engine.searcher.encoder.runtime
    assert isinstance(fake, FakeRuntime)
    return fake


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def fake_engine(fake: Encoder, tiny_index: Path, metrics: Metrics) -> Iterator[Engine]:
    engine = make_engine(fake, tiny_index, SMALL_LIMITS, query_cache_entries=10, metrics=metrics)
    yield engine
    runtime(engine).may_end.set()
    engine.close()


async def search(
    engine: Engine, *queries: str, top_k: int = 3, seconds: float = 10.0
) -> SearchOutcome:
    return await engine.search(queries, Page(top_k), language=None, deadline=monotonic() + seconds)


async def encode(engine: Engine, *texts: str) -> EncodeOutcome:
    return await engine.encode(texts, "query", monotonic() + 10.0)


def test_search_equals_the_searcher(engine: Engine) -> None:
    found = asyncio.run(search(engine, *QUESTIONS))

    for hits, expected in zip(found.hits, engine.searcher.search(QUESTIONS, 3), strict=True):
        assert [hit.passage for hit in hits] == [hit.passage for hit in expected]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected])


def test_a_search_is_timed_by_every_stage_in_the_order_of_work(engine: Engine) -> None:
    found = asyncio.run(search(engine, "tea"))

    assert tuple(found.stage_seconds) == tuple(stage for stage in STAGES if stage != "filter")
    assert all(seconds >= 0 for seconds in found.stage_seconds.values())


def test_encode_equals_the_encoder(engine: Engine) -> None:
    embedded = asyncio.run(encode(engine, *QUESTIONS))

    expected = engine.searcher.encoder.encode(QUESTIONS, "query")
    np.testing.assert_allclose(embedded.embeddings, expected.embeddings, atol=1e-6)
    assert embedded.num_tokens == expected.num_tokens


async def waiting(engine: Engine, *works: object) -> list["asyncio.Task[object]"]:
    """Start requests behind a batch that runs until `may_end` is set."""
    runtime(engine).may_end.clear()
    runtime(engine).has_begun.clear()
    tasks = [asyncio.create_task(encode(engine, "the first"))]
    await asyncio.to_thread(runtime(engine).has_begun.wait, 10)
    tasks += [asyncio.create_task(work) for work in works]  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    return tasks  # type: ignore[return-value]


def test_requests_of_one_batch_each_get_their_own_top_k(fake_engine: Engine) -> None:
    async def scenario() -> list[SearchOutcome]:
        works = search(fake_engine, "tea", top_k=1), search(fake_engine, "sun", top_k=5)
        _, *tasks = await waiting(fake_engine, *works)
        runtime(fake_engine).may_end.set()
        return [await task for task in tasks]  # type: ignore[misc]

    few, many = asyncio.run(scenario())

    assert runtime(fake_engine).batch_sizes == [1, 2]
    assert (len(few.hits[0]), len(many.hits[0])) == (1, 5)


def test_a_cached_query_is_searched_without_a_forward_pass(fake_engine: Engine) -> None:
    async def scenario() -> tuple[SearchOutcome, SearchOutcome]:
        return await search(fake_engine, "tea"), await search(fake_engine, "tea", "sun")

    first, second = asyncio.run(scenario())

    assert runtime(fake_engine).batch_sizes == [1, 1]
    assert first.hits[0] == second.hits[0]


def test_equal_queries_in_flight_share_one_forward_pass(fake_engine: Engine) -> None:
    async def scenario() -> list[SearchOutcome]:
        _, *tasks = await waiting(fake_engine, *(search(fake_engine, "tea") for _ in range(5)))
        runtime(fake_engine).may_end.set()
        return [await task for task in tasks]  # type: ignore[misc]

    answers = asyncio.run(scenario())

    assert sum(runtime(fake_engine).batch_sizes) == 2  # the first, and one for all five
    found = [[hit.passage.passage_id for hit in answer.hits[0]] for answer in answers]
    assert found == [found[0]] * 5


def test_a_cancelled_leader_does_not_cancel_its_followers(fake_engine: Engine) -> None:
    async def scenario() -> SearchOutcome:
        works = [search(fake_engine, "tea"), search(fake_engine, "tea")]
        _, leader, follower = await waiting(fake_engine, *works)
        leader.cancel()
        runtime(fake_engine).may_end.set()
        return await follower  # type: ignore[return-value]

    assert asyncio.run(scenario()).hits[0]


def test_a_follower_whose_deadline_passes_leaves_the_flight_and_the_cache_alone(
    fake_engine: Engine,
) -> None:
    async def scenario() -> None:
        _, leader = await waiting(fake_engine, search(fake_engine, "tea"))
        with pytest.raises(DeadlineExceededError):
            await search(fake_engine, "tea", seconds=0.05)
        follower = asyncio.create_task(search(fake_engine, "tea"))
        await asyncio.sleep(0.01)
        runtime(fake_engine).may_end.set()
        await asyncio.gather(leader, follower)
        await search(fake_engine, "tea")

    asyncio.run(scenario())

    assert runtime(fake_engine).batch_sizes == [1, 1]  # the first, and one for all others


def test_a_follower_of_a_leader_that_fails_leads_and_fills_the_cache(fake_engine: Engine) -> None:
    async def scenario() -> None:
        works = (
            search(fake_engine, "tea", seconds=0.05),
            *(search(fake_engine, "tea") for _ in range(3)),
        )
        _, leader, *followers = await waiting(fake_engine, *works)
        with pytest.raises(DeadlineExceededError):
            await leader
        await asyncio.sleep(0.01)
        runtime(fake_engine).may_end.set()
        await asyncio.gather(*followers)
        await search(fake_engine, "tea")

    asyncio.run(scenario())

    assert runtime(fake_engine).batch_sizes == [1, 1]  # the leader's text is dropped


def test_a_request_with_equal_queries_runs_each_once_and_in_order(fake_engine: Engine) -> None:
    found = asyncio.run(search(fake_engine, "tea", "sun", "tea", "Kenya", "sun"))

    assert sum(runtime(fake_engine).batch_sizes) == 3
    assert [found.hits[0], found.hits[1]] == [found.hits[2], found.hits[4]]
    assert found.hits[0] != found.hits[1]


def test_a_request_that_is_cancelled_at_once_leaves_no_flight_behind(fake_engine: Engine) -> None:
    async def scenario() -> SearchOutcome:
        for steps in range(4):
            leaving = asyncio.create_task(search(fake_engine, "tea", "tea"))
            for _ in range(steps):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        return await search(fake_engine, "tea")

    assert asyncio.run(scenario()).hits[0]


@pytest.mark.parametrize("count", [1, 64])
def test_on_an_idle_engine_no_request_is_refused_because_of_its_own_size(
    fake_engine: Engine, count: int
) -> None:
    """The queue holds 128 tokens; the request has more."""

    async def scenario() -> tuple[SearchOutcome, EncodeOutcome]:
        texts = [f"tea {number} " * 20 for number in range(count)]
        return await search(fake_engine, *texts), await encode(fake_engine, *texts * 4)

    found, embedded = asyncio.run(scenario())

    assert len(found.hits) == count
    assert len(embedded.embeddings) == 4 * count


@pytest.mark.parametrize("may_extend", [False, True])
def test_the_default_deadline_of_bulk_grows_with_the_tokens(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, may_extend: bool
) -> None:
    deadlines: list[float] = []

    async def submit(items: object, lane: str, deadline: float, spent: object) -> None:
        deadlines.append(deadline)
        raise NotReadyError("enough")

    monkeypatch.setattr(fake_engine.batcher, "submit", submit)
    monkeypatch.setattr(fake_engine.batcher, "seconds_alone", lambda lane, num_tokens: num_tokens)

    async def scenario() -> None:
        for count in (1, 10):
            with pytest.raises(NotReadyError):
                await fake_engine.encode(["tea"] * count, "query", 7.0, may_extend=may_extend)

    asyncio.run(scenario())

    first, second = (deadline - 7.0 for deadline in deadlines)
    assert second == 10 * first
    assert (first > 0) == may_extend


def test_overload_is_refused_with_the_time_to_retry(fake_engine: Engine) -> None:
    async def scenario() -> None:
        tasks = await waiting(fake_engine, *(encode(fake_engine, word * 40) for word in "abcdef"))
        with pytest.raises(OverloadedError) as refusal:
            await encode(fake_engine, "z" * 40)
        runtime(fake_engine).may_end.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

        assert refusal.value.retry_after_seconds >= 1
        assert {type(answer) for answer in answers} <= {EncodeOutcome, OverloadedError}

    asyncio.run(scenario())


def test_a_deadline_spent_on_waiting_for_the_tokenizer_is_429(fake_engine: Engine) -> None:
    async def scenario() -> None:
        may_end = threading.Event()
        others = [
            asyncio.create_task(fake_engine.threads.run(lambda: may_end.wait(10))) for _ in range(2)
        ]
        late = asyncio.create_task(fake_engine.encode(["tea " * 600], "query", monotonic() + 0.05))
        await asyncio.sleep(0.1)
        may_end.set()
        with pytest.raises(OverloadedError):
            await late
        assert await asyncio.gather(*others) == [True, True]

    asyncio.run(scenario())


def test_tokenizing_beside_that_of_others_is_429_when_it_takes_too_long(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fake_engine.searcher.encoder
    tokenize = encoder.tokenize

    def tokenize_slowly(*arguments: object) -> object:
        time.sleep(0.2)
        return tokenize(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "tokenize", tokenize_slowly)

    async def scenario() -> list[object]:
        works = (fake_engine.encode(["tea " * 600], "query", monotonic() + 0.1) for _ in "ab")
        return await asyncio.gather(*works, return_exceptions=True)  # type: ignore[return-value]

    assert {type(answer) for answer in asyncio.run(scenario())} == {OverloadedError}


@pytest.mark.parametrize("text", ["tea", "tea " * 600])  # in the event loop, and in a thread
def test_a_deadline_spent_on_own_tokenizing_is_504_with_the_whole_time(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    encoder = fake_engine.searcher.encoder
    tokenize = encoder.tokenize

    def tokenize_slowly(*arguments: object) -> object:
        time.sleep(0.2)
        return tokenize(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "tokenize", tokenize_slowly)
    monkeypatch.setattr(forecast, "HANDOVER_SECONDS", 10.0)  # the machine may be busy
    for work in (
        lambda: fake_engine.encode([text], "query", monotonic() + 0.1),
        lambda: search(fake_engine, f"{text}pot", seconds=0.1),
    ):
        with pytest.raises(ShortDeadlineError, match=r"takes about 0\.[2-9]\d? s even on an idle"):
            asyncio.run(work())  # type: ignore[no-untyped-call]


def test_a_bad_text_fails_alone_and_is_never_quoted(
    fake_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[object]:
        encoder = fake_engine.searcher.encoder
        words = ["tea", "sun", "Kenya"]
        known = {token for text in encoder.tokenize(words, "query") for token in text.token_ids}
        [bad] = encoder.tokenize(["Berg"], "query")
        runtime(fake_engine).bad_token = next(iter(set(bad.token_ids) - known))
        works = [search(fake_engine, word) for word in (*words, "Berg")]
        _, *tasks = await waiting(fake_engine, *works)
        runtime(fake_engine).may_end.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *good, bad = asyncio.run(scenario())

    assert [type(answer) for answer in good] == [SearchOutcome] * 3
    assert isinstance(bad, BatchFailedError)
    assert "Berg" not in f"{bad} {caplog.text}"


def spoil(engine: Engine, text: str, *others: str) -> None:
    """Make the runtime give NaN for a token of a text that no other text has."""
    encoder = engine.searcher.encoder
    known = {token for each in encoder.tokenize(others, "query") for token in each.token_ids}
    [tokenized] = encoder.tokenize([text], "query")
    runtime(engine).spoiled_token = next(iter(set(tokenized.token_ids) - known))


def test_an_embedding_of_nan_fails_its_request_alone_and_runs_nothing_twice(
    fake_engine: Engine, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[object]:
        words = ["tea", "sun", "Kenya"]
        spoil(fake_engine, "Berg", *words, "the first")
        works = [search(fake_engine, word) for word in (*words, "Berg")]
        _, *tasks = await waiting(fake_engine, *works)
        runtime(fake_engine).may_end.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *good, bad = asyncio.run(scenario())

    assert sum(runtime(fake_engine).batch_sizes) == 5
    assert [type(answer) for answer in good] == [SearchOutcome] * 3
    assert isinstance(bad, InvalidEmbeddingError)
    assert bad.position == 0
    assert b"clear_invalid_embeddings_total 1.0" in metrics.expose()[0]
    assert "gives NaN, infinity or zero for 1 of the" in caplog.text
    assert "Berg" not in f"{bad} {caplog.text}"


def test_an_embedding_of_nan_is_named_by_its_place_in_the_request_and_never_cached(
    fake_engine: Engine,
) -> None:
    async def scenario() -> list[int]:
        spoil(fake_engine, "Berg", "tea", "sun")
        await search(fake_engine, "tea")  # cached: the batch holds the others alone
        positions = []
        for _ in range(2):
            with pytest.raises(InvalidEmbeddingError) as caught:
                await search(fake_engine, "tea", "sun", "Berg", "Berg")
            positions.append(caught.value.position)
        return positions

    assert asyncio.run(scenario()) == [2, 2]
    assert len(runtime(fake_engine).batch_sizes) >= 3


def test_a_follower_of_an_embedding_of_nan_fails_by_its_own_place(fake_engine: Engine) -> None:
    async def scenario() -> list[object]:
        spoil(fake_engine, "Berg", "tea", "the first")
        works = [search(fake_engine, "Berg"), search(fake_engine, "tea", "Berg")]
        _, *tasks = await waiting(fake_engine, *works)
        runtime(fake_engine).may_end.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = asyncio.run(scenario())

    assert [type(error) for error in errors] == [InvalidEmbeddingError] * 2
    assert [error.position for error in errors] == [0, 1]  # type: ignore[attr-defined]


def test_an_encoder_that_gives_nan_for_the_probe_is_not_healthy(fake_engine: Engine) -> None:
    async def scenario() -> list[bool]:
        spoil(fake_engine, "Berg", "probe")
        with pytest.raises(InvalidEmbeddingError):
            await encode(fake_engine, "Berg")
        one_text = await fake_engine.is_healthy()
        spoil(fake_engine, "probe")
        with pytest.raises(InvalidEmbeddingError):
            await encode(fake_engine, "tea", "probe")
        return [one_text, await fake_engine.is_healthy()]

    assert asyncio.run(scenario()) == [True, False]


def test_health_is_that_of_the_last_batch_or_of_a_probe(fake_engine: Engine) -> None:
    async def scenario() -> list[bool]:
        fresh = await fake_engine.is_healthy()
        runtime(fake_engine).error = ValueError("broken weights")
        with pytest.raises(BatchFailedError):
            await search(fake_engine, "tea")
        failing = await fake_engine.is_healthy()
        runtime(fake_engine).error = None
        return [fresh, failing, await fake_engine.is_healthy()]

    assert asyncio.run(scenario()) == [True, False, True]


def test_a_probe_is_not_refused_because_others_wait(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OverloadedError(1)

    async def scenario() -> bool:
        runtime(fake_engine).error = ValueError("one bad batch")
        with pytest.raises(BatchFailedError):
            await search(fake_engine, "tea")
        runtime(fake_engine).error = None
        monkeypatch.setattr(fake_engine.batcher, "admit", refuse)
        return await fake_engine.is_healthy()

    assert asyncio.run(scenario())


def test_a_broken_device_is_reported_and_stays_broken(fake_engine: Engine) -> None:
    async def scenario() -> bool:
        runtime(fake_engine).error = RuntimeError("CUDA error: unspecified launch failure")
        with pytest.raises(DeviceBrokenError):
            await search(fake_engine, "tea")
        runtime(fake_engine).error = None
        with pytest.raises(NotReadyError):
            await search(fake_engine, "tea")
        return await fake_engine.is_healthy()

    assert not asyncio.run(scenario())
    assert fake_engine.batcher.is_broken


def test_out_of_memory_lowers_the_budget_that_the_metrics_show(
    fake_engine: Engine, metrics: Metrics
) -> None:
    runtime(fake_engine).error = MemoryError()

    with pytest.raises(BatchFailedError, match="not enough memory"):
        asyncio.run(search(fake_engine, "tea"))

    assert b"clear_batch_token_budget 32.0" in metrics.expose()[0]


def test_a_failing_search_is_a_failed_batch_and_the_next_succeeds(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("the index fails")

    with monkeypatch.context() as patch, pytest.raises(BatchFailedError):
        patch.setattr(fake_engine.searcher, "rank", fail)
        asyncio.run(search(fake_engine, "tea"))

    assert asyncio.run(search(fake_engine, "tea")).hits[0]


def test_a_failing_tokenizer_fails_its_request_alone(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("the tokenizer fails")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="tokenizer"):
        patch.setattr(fake_engine.searcher.encoder, "tokenize", fail)
        asyncio.run(search(fake_engine, "tea"))

    assert asyncio.run(search(fake_engine, "tea")).hits[0]


def test_warm_up_runs_the_worst_case(fake_engine: Engine) -> None:
    with pytest.raises(GenerationError, match="canary"):  # no real embeddings, no real answers
        fake_engine.warm_up()

    longest = fake_engine.searcher.encoder.max_tokens
    assert max(runtime(fake_engine).batch_sizes) == max(8, SMALL_LIMITS.max_batch_tokens // longest)


def test_warm_up_runs_no_text_over_512_tokens(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fake_engine.searcher.encoder
    monkeypatch.setattr(encoder, "max_tokens", 8192)
    encoder.tokenizer.enable_truncation(8192)
    lengths = []
    embed = encoder.embed

    def record(batch: PaddedBatch) -> Tensor:
        lengths.append(batch.token_ids.shape[1])
        return embed(batch)

    monkeypatch.setattr(encoder, "embed", record)
    with pytest.raises(GenerationError, match="canary"):
        fake_engine.warm_up()
    encoder.tokenizer.enable_truncation(64)

    assert max(lengths) == 512


def test_warm_up_refuses_an_index_that_answers_its_canaries_differently(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = Canary(query="tea", passage_ids=["no such passage"])
    generation = engine.searcher.generation
    changed = generation.manifest.model_copy(update={"canaries": [canary]})
    monkeypatch.setattr(engine.searcher, "generation", replace(generation, manifest=changed))

    with pytest.raises(GenerationError, match="fails its canary query 1: no such passage expected"):
        engine.warm_up()


def test_a_short_query_that_comes_again_is_not_tokenized_again(
    tiny_encoder: Encoder, tiny_index: Path
) -> None:
    encoder, tokenized = copy.copy(tiny_encoder), list[str]()
    long = "tea " * 600

    def tokenize(texts: list[str], role: Role) -> list[TokenizedText]:
        tokenized.extend(texts)
        return tiny_encoder.tokenize(texts, role)

    encoder.tokenize = tokenize  # type: ignore[assignment, method-assign]
    engine = make_engine(encoder, tiny_index, query_cache_entries=1)
    found = [asyncio.run(search(engine, text)).hits for text in ("tea", "milk", "tea", long, long)]
    engine.close()
    assert tokenized == ["tea", "milk", long, long]
    assert found[0] == found[2]
