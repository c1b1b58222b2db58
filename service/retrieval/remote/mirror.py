"""The mirror of an index at a URL: a local copy that is pulled, verified, then opened.

FOLDER is laid out as any index. Its CURRENT names the generation that was served last, so that a
service can start from it where the store cannot be reached.
"""

import hashlib
import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from service.retrieval.errors import GenerationError, StoreError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    verify_hashes,
)
from service.retrieval.generation.history import collect_garbage, live_names, make_live
from service.retrieval.generation.writer import exclusive_writer
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.relevance.choice import CALIBRATION
from service.retrieval.remote.pull import pull_generation
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import read_hash, remote_current
from service.retrieval.storage import artifact

logger = logging.getLogger(__name__)
LOCK = ".pull.lock"
PULLING = ".pulling-"
KEPT = 1  # generations beside the live one
LOCK_SECONDS = 0.5  # between two looks at whether to stop


class Mirror:
    """The local copy of an index; processes that share its folder pull one after another."""

    def __init__(self, url: str, folder: Path) -> None:
        """Name the URL and the folder; nothing is read yet."""
        self.url = url
        self.folder = folder
        self._opened: Store | None = None
        self._stopped = threading.Event()

    def current_name(self) -> str:
        """Return the name of the generation that is live at the URL; raises as the function."""
        return remote_current(self._store)

    def start(self) -> str:
        """Return the generation to open at a start: the one that is live at the URL.

        It is the one that was served here last where that one cannot be had.

        Raises:
            StoreError, GenerationError: there is neither.
        """
        try:
            name = self.current_name()
            self.pull(name)
        except (StoreError, GenerationError) as error:
            try:
                name = current_name(self.folder)
            except GenerationError:
                raise error from None
            logger.warning(
                "%s; generation %s of the copy in %s is served", error, name, self.folder
            )
        return name

    def pull_current(self, on_progress: OnProgress = ignore_progress) -> str:
        """Pull the generation that is live at the URL and let CURRENT name it, for a command."""
        name = self.current_name()
        self.pull(name, on_progress)
        self.keep(name)
        return name

    def pull(self, name: str, on_progress: OnProgress = ignore_progress) -> None:
        """Have a generation in the folder, each file with its hash; CURRENT stays as it is.

        Raises:
            GenerationError: a file at the URL is damaged, or the folder cannot be written.
            StoreError: the store cannot be reached, or refuses.
        """
        with self._turn() as generations:
            self._pull_calibration()
            target = generations / name
            if target.is_dir():
                try:
                    verify_hashes(target)
                    return
                except GenerationError as error:
                    logger.warning("%s; it is pulled again", error)
                    shutil.rmtree(target)
            for stale in generations.glob(f"{PULLING}*"):
                if stale.name != PULLING + name:
                    shutil.rmtree(stale)
            partial = generations / (PULLING + name)
            partial.mkdir(exist_ok=True)
            pull_generation(self._store, name, partial, on_progress)
            artifact.publish_directory(partial, target)

    def keep(self, name: str) -> None:
        """Let CURRENT name a generation that is served, and remove old ones.

        A failure is logged: the generation is served all the same.
        """
        try:
            with self._turn():
                names = live_names(self.folder)
                if names[-1:] != [name]:
                    with exclusive_writer(self.folder):
                        make_live(self.folder, name, [each for each in names if each != name])
                    collect_garbage(self.folder, KEPT)
        except GenerationError as error:
            logger.warning("%s", error)

    def stop(self) -> None:
        """Let what waits for the store in another thread end with an error."""
        self._stopped.set()

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = Store(self.url, self._stopped)
        return self._opened

    def _pull_calibration(self) -> None:
        """Have the calibration of the index beside its generations, or none."""
        local = self.folder / CALIBRATION
        expected = read_hash(self._store, CALIBRATION)
        if expected is None:
            local.unlink(missing_ok=True)
            return
        content = self._store.read(CALIBRATION)
        if hashlib.sha256(content).hexdigest() != expected:
            raise GenerationError(
                f"{self.url}/{CALIBRATION} was altered (its sha256 is not the one beside it): "
                "upload the index again"
            )
        artifact.replace_file(local, content)

    @contextmanager
    def _turn(self) -> Iterator[Path]:
        """Wait for other processes that pull into the folder; yield the generations' folder."""
        generations = generations_directory(self.folder)
        try:
            generations.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK)
            while not lock.is_locked:
                if self._stopped.is_set():
                    raise StoreError(f"{self.url} is not pulled: the program ends")
                with suppress(Timeout):
                    lock.acquire(timeout=LOCK_SECONDS)
            try:
                yield generations
            finally:
                lock.release()
        except (OSError, sqlite3.OperationalError) as error:
            raise GenerationError(
                f"the copy of {self.url} cannot be written to {self.folder}: "
                f"{artifact.write_failure(self.folder, error)}; set CLEAR_INDEX_CACHE to a folder "
                "that can be written"
            ) from None
