import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from service.engine import Embedded, Engine, Found
from service.errors import BatchFailedError
from service.metrics import STAGES, Metrics
from service.retrieval.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation import open_current
from service.retrieval.searcher import Searcher

QUESTIONS = ["capital of Kenya", "Was kocht auf einem Berg?", "chai inakua wapi?"]


@pytest.fixture(scope="module")
def engine(tiny_encoder: Encoder, tiny_index: object) -> Iterator[Engine]:
    searcher = Searcher(tiny_encoder, open_current(tiny_index))  # type: ignore[arg-type]
    engine = Engine(searcher, Metrics(), max_batch_tokens=2048, max_waiting_tokens=65_536)
    yield engine
    engine.close()


async def search(engine: Engine, *queries: str, top_k: int = 3, min_score: float = -1.0) -> Found:
    return await engine.search(
        queries, top_k=top_k, min_score=min_score, language=None, timeout_seconds=10.0
    )


async def encode(engine: Engine, *texts: str) -> Embedded:
    return await engine.encode(texts, "query", 10.0)


def test_search_equals_the_searcher(engine: Engine) -> None:
    found = asyncio.run(search(engine, *QUESTIONS))

    assert found.hits == engine.searcher.search(QUESTIONS, top_k=3)


def test_a_search_is_timed_by_every_stage_in_the_order_of_work(engine: Engine) -> None:
    found = asyncio.run(search(engine, "tea"))

    assert tuple(found.stage_seconds) == STAGES
    assert all(seconds >= 0 for seconds in found.stage_seconds.values())


def test_encode_equals_the_encoder(engine: Engine) -> None:
    embedded = asyncio.run(encode(engine, *QUESTIONS))

    expected = engine.searcher.encoder.encode(QUESTIONS, "query")
    np.testing.assert_allclose(embedded.embeddings, expected.embeddings, atol=1e-6)
    assert embedded.num_tokens == expected.num_tokens


def test_requests_of_one_batch_each_get_what_they_asked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first batch runs, two searches and an encoding wait, and share the second."""
    encoder = engine.searcher.encoder
    has_begun, is_open, batches = threading.Event(), threading.Event(), []
    genuine = encoder.encode_tokenized

    def gated(texts: list[object], *arguments: object) -> object:
        batches.append(len(texts))
        has_begun.set()
        assert is_open.wait(10)
        return genuine(texts, *arguments)  # type: ignore[arg-type]

    async def scenario() -> tuple[Found, Found, Embedded]:
        first = asyncio.create_task(encode(engine, "first"))
        await asyncio.to_thread(has_begun.wait, 10)
        requests = [search(engine, "tea", top_k=1), search(engine, "sun", top_k=5)]
        waiting = [asyncio.create_task(work) for work in (*requests, encode(engine, "tea"))]
        while engine._batcher.waiting_tokens < sum(map(num_tokens, ["tea", "sun", "tea"])):
            await asyncio.sleep(0.001)
        is_open.set()
        await first
        return await asyncio.gather(*waiting)

    def num_tokens(text: str) -> int:
        return len(encoder.tokenize([text], "query")[0].token_ids)

    monkeypatch.setattr(encoder, "encode_tokenized", gated)
    few, many, embedded = asyncio.run(scenario())

    assert batches == [1, 3]
    assert [len(few.hits[0]), len(many.hits[0]), len(embedded.embeddings)] == [1, 5, 1]


def test_a_failing_encoder_is_told_without_the_text(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("CUDA is out of memory at 'secret question'")

    with monkeypatch.context() as patch, pytest.raises(BatchFailedError) as failure:
        patch.setattr(engine.searcher.encoder, "encode_tokenized", fail)
        asyncio.run(search(engine, "secret question"))

    assert "secret" not in f"{failure.value} {caplog.text}"
    assert asyncio.run(search(engine, "tea")).hits[0]


def test_warm_up_runs_the_longest_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = engine.searcher.encoder
    longest = 0
    genuine = encoder.encode_tokenized

    def noting(texts: list[object], *arguments: object) -> object:
        nonlocal longest
        longest = max(longest, *(len(text.token_ids) for text in texts))  # type: ignore[attr-defined]
        return genuine(texts, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "encode_tokenized", noting)
    engine.warm_up()

    assert longest == encoder.max_tokens


def test_warm_up_refuses_an_index_that_answers_its_canaries_otherwise(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = {"query": "tea", "passage_ids": ["no such passage"]}
    monkeypatch.setitem(engine.searcher.generation.manifest, "canaries", [canary])

    with pytest.raises(GenerationError, match="fails its canary query 1: no such passage expected"):
        engine.warm_up()
