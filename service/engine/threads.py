"""Threads for work that would hold the event loop: tokenizing, filters, looking passages up."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.batching.request import Spent
from service.errors import DeadlineExceededError
from service.retrieval.corpus.filters import Filter
from service.retrieval.corpus.selection import Facet
from service.retrieval.encoder.runtime.on_demand import is_loaded, load
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.searcher import Searcher

NUM_THREADS = 2
ResultT = TypeVar("ResultT")


class WorkThreads:
    """Runs work in threads; used from one event loop."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="tokenizer")
        self._num_running = self._num_begun = 0
        self._loading: dict[Runtime, asyncio.Future[Runtime]] = {}

    async def run(self, work: Callable[[], ResultT], spent: Spent | None = None) -> ResultT:
        """Run work in a thread and return its result.

        Args:
            work: called without arguments.
            spent: the request's time, which does not count as its own if others ran beside it.
        """
        self._num_begun += 1
        begun, is_shared = self._num_begun, self._num_running > 0
        self._num_running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._num_running -= 1
            if spent and (is_shared or self._num_begun > begun):
                spent.own_seconds = 0.0  # beside others it took longer than alone

    async def load(self, runtime: Runtime, deadline: float) -> None:
        """Load a side's runtime at its first text, beside batches; requests share one loading.

        Raises:
            DeadlineExceededError: it takes longer; it goes on for later requests.
            RetrievalError: the runtime cannot be loaded.
        """
        if is_loaded(runtime):
            return
        loading = self._loading.get(runtime)
        if loading is None:
            loading = asyncio.ensure_future(self.run(lambda: load(runtime)))
            self._loading[runtime] = loading
            loading.add_done_callback(lambda _: self._loading.pop(runtime))
        seconds = max(0.0, deadline - time.monotonic())
        if not (await asyncio.wait({loading}, timeout=seconds))[0]:
            raise DeadlineExceededError(
                "the deadline passed while the encoder's passage side was loaded, which goes on: "
                "try again, or set a longer timeout_ms"
            )
        loading.result()

    def close(self) -> None:
        """Stop the threads when their work is done."""
        self._pool.shutdown()

    async def select(
        self, searcher: Searcher, filter: Filter | None, facets: Sequence[str], spent: Spent
    ) -> dict[str, Facet]:
        """Find the passages that match the filter, before the device needs them; count facets."""
        if filter is None and not facets:
            return {}
        selections = searcher.selections

        def select() -> dict[str, Facet]:
            with spent.own_work():
                if filter:
                    selections.select(filter).find()
                return selections.facets(facets, filter)

        return await self.run(select, spent)
