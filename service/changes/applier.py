"""The applier: makes generations of the changes that wait, one after another."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.changes.application import MAX_DOCUMENTS, Application, RefusedChangeError
from service.changes.journal import Record
from service.changes.ledger import applied_record
from service.changes.register import Register
from service.engine.engine import Engine
from service.engine.lane import encoder_in_bulk_lane
from service.engine.reloader import Reloader
from service.errors import NotReadyError, RequestError
from service.retrieval.errors import PassageError, RetrievalError
from service.retrieval.generation.history import drop_generations
from service.retrieval.index.options import IndexOptions
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)
MAX_PAUSE_SECONDS = 60.0
# Generations made of changes that are kept beside the live one: a replica may be opening one.
KEPT_GENERATIONS = 2


@dataclass
class Applier:
    """Applies changes in batches and serves the result; runs in the event loop until stopped."""

    index: Path
    register: Register
    engine: Engine
    reloader: Reloader
    options: IndexOptions
    apply_seconds: float
    metrics: Metrics
    is_closing: bool = False
    _made: list[str] = field(default_factory=list)  # generations, oldest first

    def __post_init__(self) -> None:
        """Remember the generations that a former process made of changes."""
        results = self.register.ledger.results.values()
        self._made = list(dict.fromkeys(each.generation for each in results if each.generation))

    async def run(self) -> None:
        """Apply what waits, now and later; errors that may pass are retried with back-off."""
        pause = 0.0
        while not self.is_closing:
            if not self.register.ledger.waiting:
                self.register.has_work.clear()
                await self.register.has_work.wait()
            started = time.monotonic()
            try:
                await self._apply()
                pause = 0.0
            except (RetrievalError, RequestError, OSError) as error:
                pause = min(MAX_PAUSE_SECONDS, pause * 2 or self.apply_seconds)
                logger.error("changes could not be applied, and wait: %s", error)
            left = started + self.apply_seconds - time.monotonic()
            await asyncio.sleep(max(left, pause))

    async def _apply(self) -> None:
        """Apply the changes that wait, up to `MAX_DOCUMENTS`; refuse those that are invalid."""
        ledger = self.register.ledger
        tokens = self.engine.bulk_batch_tokens
        encoder = encoder_in_bulk_lane(self.engine, tokens, self._check_not_closing)
        application = Application(
            self.index, encoder, self.options, self._writer(), self._check_not_closing
        )
        size = MAX_DOCUMENTS
        while batch := ledger.batch(size):
            try:
                generation = await _finished(lambda: application.run(batch))
            except RefusedChangeError as error:
                await self._settle({"refused": error.number, "reason": error.reason})
            except PassageError as error:  # no passage would be left
                size = sum(map(len, batch)) // 2
                if len(batch) == 1:
                    await self._settle({"refused": batch[0].number, "reason": str(error)})
                    size = MAX_DOCUMENTS
            else:
                numbers = [accepted.number for accepted in batch]
                await self._go_live(numbers, generation)
                return

    async def _go_live(self, numbers: list[int], generation: str) -> None:
        """Serve a generation that was published, and settle its changes."""
        reason = None
        try:
            await self.reloader.reload()
        except RequestError as error:  # it is published; a later one may be served
            reason = f"its generation is not served: {error}"
            logger.error("changes were applied, and are not served yet: %s", error)
        waiting, now = self.register.ledger.waiting, time.time()
        for number in numbers:
            self.metrics.change_seconds.observe(now - waiting[number].at)
        await self._settle(applied_record(numbers, generation, reason))
        self._made = [*(name for name in self._made if name != generation), generation]
        old = self._made[: -1 - KEPT_GENERATIONS]
        try:
            await asyncio.to_thread(drop_generations, self.index, old)
            self._made = self._made[len(old) :]
        except (RetrievalError, OSError) as error:
            logger.warning("old generations were not removed: %s", error)

    async def _settle(self, record: Record) -> None:
        """Write what became of changes."""
        numbers = record.get("applied") or [record["refused"]]
        waiting = self.register.ledger.waiting
        num_documents = sum(len(waiting[number]) for number in numbers)
        try:
            await self.register.write(record)
        except OSError as error:  # a restart finds out what was published
            logger.error("a result could not be written to the journal: %s", error)
            self.register.settle(record)
        result = "applied" if "applied" in record else "refused"
        self.metrics.changed_documents.labels(result).inc(num_documents)

    def _writer(self) -> Callable[[Record], None]:
        """Return a function that writes a record, for another thread."""
        loop, write = asyncio.get_running_loop(), self.register.write

        def write_record(record: Record) -> None:
            asyncio.run_coroutine_threadsafe(write(record), loop).result()

        return write_record

    def _check_not_closing(self) -> None:
        if self.is_closing:
            raise NotReadyError("the service is shutting down: a restart applies the changes")


async def _finished(work: Callable[[], str]) -> str:
    """Return the result of work in a thread; a cancellation waits until the thread has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
