"""Threads for work that would hold the event loop: tokenizing, filters, looking passages up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.batching.request import Spent

NUM_THREADS = 2
ResultT = TypeVar("ResultT")


class WorkThreads:
    """Runs work in threads; used from one event loop."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="tokenizer")
        self._num_running = self._num_begun = 0

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

    def close(self) -> None:
        """Stop the threads when their work is done."""
        self._pool.shutdown()
