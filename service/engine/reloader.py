"""Reloads the index while requests go on: on request, on SIGHUP, or when CURRENT changes."""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.engine.engine import Engine
from service.errors import OverloadedError, ReloadRefusedError, RequestError
from service.retrieval.errors import RetrievalError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    open_verified,
    verify_generation,
)
from service.retrieval.generation.manifest import read_manifest
from service.retrieval.generation.room import check_room
from service.retrieval.index.options import IndexOptions
from service.retrieval.remote.mirror import Mirror
from service.retrieval.searcher import Searcher
from service.telemetry.logs import without_folders
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)
MAX_RETRY_SECONDS = 600.0


@dataclass(frozen=True)
class Reloaded:
    """The result of a reload."""

    result: Literal["swapped", "unchanged"]
    generation: str
    passages: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return the body of `/admin/reload`."""
        return {
            "result": self.result,
            "index": {"generation": self.generation, "passages": self.passages},
            "took_ms": round(self.seconds * 1000, 3),
        }


class Reloader:
    """Makes the generation that CURRENT names live; lives in the event loop."""

    def __init__(
        self,
        engine: Engine,
        index: Path,
        options: IndexOptions,
        metrics: Metrics,
        mirror: Mirror | None = None,
    ) -> None:
        """Start with the generation that the engine searches; nothing is watched yet.

        Of an index at a URL `index` is the folder of its `mirror`.
        """
        self._engine = engine
        self._index = index
        self._options = options
        self._metrics = metrics
        self._mirror = mirror
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusal = ""

    async def reload(self) -> Reloaded:
        """Verify, open and warm up the generation that CURRENT names, and make it live.

        Raises:
            ReloadRefusedError: it cannot be served; the live generation stays.
        """
        async with self._turn:
            started = time.monotonic()
            try:
                result = await self._follow()
            except (RetrievalError, RequestError, OSError, MemoryError) as error:
                self.refusal = self._for_probes(str(error)) or "out of memory"
                self._count("refused")
                logger.error("the reload was refused, the live generation stays: %s", self.refusal)
                logger.debug("the reload was refused in %s: %s", self._index, error)
                raise ReloadRefusedError(self.refusal) from error
            self.refusal = ""
            self._count(result)
            seconds = time.monotonic() - started
            generation = self._engine.searcher.generation
            if result == "swapped":
                self._metrics.reload_seconds.observe(seconds)
                logger.info("generation %s is live after %.2f s", generation.name, seconds)
            return Reloaded(result, generation.name, len(generation.passages), seconds)

    def start(self) -> None:
        """Reload in the background; a refusal is logged."""

        async def reload() -> None:
            await self._try()

        self._spawn(reload())

    def watch(self, seconds: float) -> None:
        """Check CURRENT every `seconds` from now on; never if 0.

        A refused generation is retried with exponential back-off: its copy may be incomplete.
        """
        if seconds:
            self._spawn(self._watch(seconds))

    async def close(self) -> None:
        """Stop watching."""
        if self._mirror:
            self._mirror.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, seconds: float) -> None:
        refused, retry_seconds, retry_at = "", seconds, 0.0
        while True:
            await asyncio.sleep(seconds)
            name = await asyncio.to_thread(self._current_or_error)
            if name == self._engine.searcher.generation.name and not self.refusal:
                continue
            if name == refused and time.monotonic() < retry_at:
                continue
            retry_seconds = (
                min(retry_seconds * 2, MAX_RETRY_SECONDS) if name == refused else seconds
            )
            refused = "" if await self._try() else name
            retry_at = time.monotonic() + retry_seconds

    async def _try(self) -> bool:
        try:
            await self.reload()
        except ReloadRefusedError:
            return False
        return True

    def _for_probes(self, message: str) -> str:
        """Leave folders and the bucket out of a message: who has no key reads it, too."""
        url = self._mirror.url if self._mirror else ""
        return without_folders(message.replace(url, "URL") if url else message, self._index)

    def _current(self) -> str:
        return self._mirror.current_name() if self._mirror else current_name(self._index)

    def _current_or_error(self) -> str:
        try:
            return self._current()
        except (RetrievalError, OSError) as error:
            return str(error)

    async def _follow(self) -> Literal["swapped", "unchanged"]:
        name = await asyncio.to_thread(self._current)
        if name == self._engine.searcher.generation.name:
            return "unchanged"
        searcher = await asyncio.to_thread(self._open, name)
        while True:
            try:
                await self._engine.try_out(searcher)
                break
            except OverloadedError as error:  # the queue is full of live requests
                await asyncio.sleep(error.retry_after_seconds)
        self._engine.replace(searcher)
        if self._mirror:
            await asyncio.to_thread(self._mirror.keep, name)
        return "swapped"

    def _open(self, name: str) -> Searcher:
        if self._mirror:
            self._mirror.pull(name)
        directory = generations_directory(self._index) / name
        encoder = self._engine.searcher.encoder
        check_room(name, read_manifest(directory), self._options)
        manifest = verify_generation(directory)
        searcher = Searcher(encoder, open_verified(directory, manifest, self._options))
        if searcher.warning:
            logger.warning("%s", searcher.warning)
        return searcher

    def _count(self, result: str) -> None:
        self._metrics.reloads.labels(result).inc()
        self._metrics.reload_refused.set(result == "refused")

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
