"""The one writer of an index: a lock, and the temporary names that a killed writer leaves."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import CURRENT, generations_directory
from service.retrieval.storage import artifact

HISTORY = "HISTORY"
LOCK = ".lock"
BUILDING, REMOVING = ".building-", ".removing-"


@contextmanager
def exclusive_writer(index: Path) -> Iterator[Path]:
    """Hold the index's write lock, and remove the temporary files of a killed writer.

    Yields:
        The folder of the generations, created if missing.

    Raises:
        GenerationError: another process holds the lock, or the disk fails or is full.
    """
    generations = generations_directory(index)
    try:
        generations.mkdir(parents=True, exist_ok=True)
        with FileLock(index / LOCK, timeout=0):
            for prefix in (BUILDING, REMOVING):  # we hold the lock: their writer is dead
                for stale in generations.glob(f"{prefix}*"):
                    shutil.rmtree(stale, ignore_errors=True)
            for stale in index.glob(".*.*"):  # temporary files of `artifact.replace_file`
                if stale.name.startswith((f".{CURRENT}.", f".{HISTORY}.")):
                    stale.unlink(missing_ok=True)
            yield generations
    except Timeout:
        raise GenerationError(
            f"another build is writing to {index}: wait until it is done"
        ) from None
    except (OSError, sqlite3.OperationalError) as error:
        raise _disk_error(index, error) from None


def _disk_error(index: Path, error: OSError | sqlite3.Error) -> GenerationError:
    return GenerationError(
        f"the index cannot be written to {index}: {artifact.write_failure(index, error)}; "
        "the live generation is unchanged"
    )
