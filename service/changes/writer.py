"""The writer of changes: one process of all that serve an index accepts and applies them."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from service.changes.application import was_published
from service.changes.applier import Applier
from service.changes.lease import Lease
from service.changes.ledger import Accepted, Ledger, Result
from service.changes.register import Register
from service.document_errors import (
    ManyChangesError,
    NotWriterError,
    StorageFullError,
    UnknownChangeError,
)
from service.engine.engine import Engine
from service.engine.reloader import Reloader
from service.errors import NotReadyError, RequestError
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import RetrievalError
from service.retrieval.generation.generation import current_name, generations_directory
from service.retrieval.generation.manifest import read_manifest
from service.retrieval.index.options import IndexOptions
from service.retrieval.indexing.apply import check_identity
from service.retrieval.storage.artifact import write_failure
from service.settings.settings import Settings
from service.telemetry.logs import without_folders
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)
FOLDER, JOURNAL = "changes", "journal"
TAKE_SECONDS = 5.0  # between two tries to take the lease of a writer that has ended


class ChangeWriter:
    """Accepts changes if this process is the writer of the index; lives in the event loop."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        reloader: Reloader,
        options: IndexOptions,
        metrics: Metrics,
    ) -> None:
        """Keep what changes need; `start` begins."""
        assert settings.index_folder is not None  # else nothing was loaded
        self._index: Path = settings.index_folder
        self._settings = settings
        self._engine = engine
        self._reloader = reloader
        self._options = options
        self._metrics = metrics
        self._journal = self._index / FOLDER / JOURNAL
        self._lease = Lease(self._index / FOLDER)
        self._register: Register | None = None
        self._applier: Applier | None = None
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False

    @property
    def ledger(self) -> Ledger:
        """Return the changes that this process knows: none if it is not the writer."""
        return self._register.ledger if self._register else Ledger()

    def describe(self) -> dict[str, object]:
        """Describe the changes that this process knows, for `/info`."""
        return {
            "is_writer": self._register is not None,
            "waiting_documents": self.ledger.num_waiting_documents,
            "oldest_seconds": round(self.ledger.oldest_seconds, 1),
        }

    def start(self) -> None:
        """Apply what waits, once this process can be the writer; without changes do nothing."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep_trying()))

    async def close(self) -> None:
        """Stop applying, at the next moment at which nothing is lost, and give the lease back."""
        self._is_closing = True
        if self._applier:
            self._applier.is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._register:
            await self._register.close()
            self._lease.give_back()

    async def submit(self, put: Sequence[Passage], delete: Sequence[str]) -> int:
        """Write a change into the journal; return its number once the disk has it.

        Raises:
            NotWriterError: another process is the writer, or this one cannot write.
            ManyChangesError: too many documents wait.
            StorageFullError: the disk is full or fails.
        """
        register = await self._open()
        ledger, num_documents = register.ledger, len(put) + len(delete)
        if ledger.num_waiting_documents + num_documents > self._settings.max_waiting_documents:
            raise ManyChangesError(
                "too many documents wait to be applied", max(1, round(self._settings.apply_seconds))
            )
        accepted = Accepted(ledger.next_number, time.time(), put, delete)
        ledger.next_number += 1
        try:
            await register.write(accepted.as_record())
        except OSError as error:
            reason = write_failure(self._index, error)
            logger.error("a change was not accepted: %s", reason)
            raise StorageFullError(f"the change was not accepted: {reason}") from error
        self._metrics.changed_documents.labels("accepted").inc(num_documents)
        return accepted.number

    async def result_of(self, number: int, wait_seconds: float = 0.0) -> Result:
        """Return the state of a change; while it waits, only after some seconds.

        Raises:
            NotWriterError: this process is not the writer.
            UnknownChangeError: no change has the number, or its result is no longer kept.
        """
        register = await self._open()
        if (result := await register.wait(number, wait_seconds)) is None:
            raise UnknownChangeError(f"there is no change {number}, or its result is not kept")
        return result

    async def _open(self) -> Register:
        """Return the register; take the lease and read it first, if this process has not."""
        if self._is_closing:
            raise NotReadyError("the service is shutting down: ask another instance")
        async with self._opening:
            if self._register is None:
                await self._take()
            if self._register is None:
                raise NotWriterError(
                    f"the changes of this index are written by {self._lease.holder}: send them "
                    "there"
                )
            return self._register

    async def _take(self) -> None:
        """Become the writer if no other process is."""
        if isinstance(self._settings.index, str):
            raise NotWriterError(
                "this instance follows an index at a URL: change the index in the folder that it "
                "is uploaded from, then run `clear-service index upload`"
            )
        try:
            await asyncio.to_thread(self._check_encoder)
            if not await asyncio.to_thread(self._lease.take):
                return
            register = await asyncio.to_thread(Register, self._journal)
            await self._settle_published(register)
        except (RetrievalError, OSError) as error:
            self._lease.give_back()
            reason = without_folders(str(error), self._index)
            raise NotWriterError(f"this instance cannot change documents: {reason}") from error
        self._register = register
        self._metrics.watch_changes(register.ledger)
        self._applier = Applier(
            *(self._index, register, self._engine, self._reloader, self._options),
            apply_seconds=self._settings.apply_seconds,
            metrics=self._metrics,
        )
        self._tasks.append(asyncio.get_running_loop().create_task(self._applier.run()))
        num_waiting = len(register.ledger.waiting)
        logger.info("this instance writes the changes of the index; %d wait", num_waiting)

    def _check_encoder(self) -> None:
        live = generations_directory(self._index) / current_name(self._index)
        check_identity(live, read_manifest(live), self._engine.searcher.encoder)

    async def _settle_published(self, register: Register) -> None:
        """Settle the changes that a killed writer published without a record of it."""
        prepared = register.ledger.prepared
        if prepared is None:
            return
        if await asyncio.to_thread(was_published, self._index, prepared):
            numbers, generation = prepared["prepared"], prepared["generation"]
            await register.write({"applied": numbers, "generation": generation})
        register.ledger.prepared = None

    async def _keep_trying(self) -> None:
        """Try to become the writer until this process is, once there have been changes."""
        while self._register is None:
            try:
                if await asyncio.to_thread(self._journal.exists):
                    await self._open()
                    return
            except RequestError as error:
                logger.debug("%s", error)
            await asyncio.sleep(TAKE_SECONDS)
