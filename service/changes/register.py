"""The register of changes: journal and ledger together, written by one process."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from service.changes.journal import Journal, Record
from service.changes.ledger import Ledger, Result

logger = logging.getLogger(__name__)
# A longer journal is rewritten: results are kept, and changes that wait.
MAX_JOURNAL_BYTES = 2**23


class Register:
    """Keeps records on the disk and their effect in memory; lives in the event loop.

    Records that come while others are written are written together: one wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        """Read the journal; errors as for `Journal`."""
        self.ledger = Ledger()
        self._journal = Journal(path, self.ledger.play)
        self._queue: list[tuple[Record, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._waiters: defaultdict[int, list[asyncio.Future[Result]]] = defaultdict(list)
        self.has_work = asyncio.Event()

    async def write(self, record: Record) -> None:
        """Write a record; it takes effect once the disk has it.

        Raises:
            OSError: the disk is full or fails; the record has no effect.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((record, written))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
        await written

    def settle(self, record: Record) -> None:
        """Take the effect of a record, and tell those who wait for its changes."""
        self.ledger.play(record)
        if self.ledger.waiting:
            self.has_work.set()
        for number in [number for number in self._waiters if number not in self.ledger.waiting]:
            result = self.ledger.result_of(number)
            for future in self._waiters.pop(number):
                if not future.done() and result:
                    future.set_result(result)

    async def wait(self, number: int, seconds: float) -> Result | None:
        """Return the result of a change, or its state after some seconds; None if unknown."""
        result = self.ledger.result_of(number)
        if result is None or result.state != "waiting":
            return result
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiters[number].append(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return self.ledger.result_of(number)

    async def close(self) -> None:
        """Write what is queued, and close the journal."""
        while self._flushing:
            await self._flushing
        self._journal.close()

    async def _flush(self) -> None:
        while self._queue:
            queued, self._queue = self._queue, []
            records = [record for record, _ in queued]
            error = await _error_of(lambda: self._journal.append(records))  # noqa: B023
            for record, written in queued:
                if error is None:
                    self.settle(record)
                if not written.done():
                    written.set_exception(error) if error else written.set_result(None)
        if self._journal.num_bytes > MAX_JOURNAL_BYTES:
            # Nothing else writes meanwhile: what comes is queued.
            left = list(self.ledger.records())
            if error := await _error_of(lambda: self._journal.rewrite(left)):
                logger.warning("the journal of changes was not shortened: %s", error)
        self._flushing = None
        if self._queue:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())


async def _error_of(work: Callable[[], None]) -> OSError | None:
    """Run blocking work in a thread; return its error if the disk is full or fails."""
    try:
        await asyncio.to_thread(work)
    except OSError as error:
        return error
    return None
