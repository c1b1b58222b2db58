import asyncio
import time
from threading import Event
from typing import Any, cast

import pytest

from service.engine.threads import WorkThreads
from service.errors import DeadlineExceededError
from service.retrieval.encoder.runtime.on_demand import OnDemandRuntime
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.errors import CheckpointError

SIDE: Any = type("Side", (), {"device": "cpu", "embedding_dim": 4, "num_slots": 1, "name": "side"})


def on_demand(load: Any) -> Runtime:
    return cast(Runtime, OnDemandRuntime(load, SIDE()))


def test_a_side_that_loads_beyond_the_deadline_is_a_504_and_serves_later_requests() -> None:
    may_end, loads = Event(), list[int]()

    def load() -> Any:
        loads.append(1)
        may_end.wait()
        return SIDE()

    async def ask() -> None:
        threads, runtime = WorkThreads(), on_demand(load)
        for _ in range(3):  # more requests than threads
            with pytest.raises(DeadlineExceededError, match="which goes on"):
                await threads.load(runtime, time.monotonic() + 0.01)
        assert await threads.run(lambda: "tokenized") == "tokenized"
        may_end.set()
        await threads.load(runtime, time.monotonic() + 60)
        threads.close()

    asyncio.run(ask())
    assert loads == [1]


def test_what_the_loading_raises_each_waiting_request_raises_and_the_next_loads_again() -> None:
    loads = list[int]()

    def load() -> Any:
        loads.append(1)
        raise CheckpointError("the file is damaged")

    async def ask() -> None:
        threads, runtime = WorkThreads(), on_demand(load)
        deadline = time.monotonic() + 60
        for _ in range(2):
            with pytest.raises(CheckpointError, match="damaged"):
                await threads.load(runtime, deadline)
        threads.close()

    asyncio.run(ask())
    assert loads == [1, 1]
