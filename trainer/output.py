"""The output of a command: never one of its inputs, of other origin, or of two runs at once."""

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trainer.errors import DataError, OutputError

LOCK = ".lock"
RESULTS = ("adapter", "encoder")  # folders in those of a run and of a blend
# What an operating system says of a disk that takes no more.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def refuse_input(output: Path, inputs: Iterable[Path], option: str = "--output") -> None:
    """Refuse an output that is an input, also by another path or by a link.

    Raises:
        OutputError: naming both.
    """
    for each in inputs:
        if output.exists() and each.exists() and output.samefile(each):
            raise OutputError(
                f"{option} {output} is {each}, which is read: name another file or folder"
            )


def refuse_other_files(directory: Path, names: Iterable[str], first: str) -> None:
    """Refuse a folder that has files of an output, but not the one that is written first.

    Raises:
        OutputError: naming the folder and such a file.
    """
    if (directory / first).is_file():
        return
    if found := next((name for name in names if (directory / name).exists()), None):
        raise OutputError(
            f"{directory} has other content ({found} without {first}): name another folder"
        )


def refuse_run_folder(encoder: str) -> None:
    """Refuse the folder of a run or a blend in place of the encoder in it.

    Raises:
        DataError: naming the encoder's folder.
    """
    for inner in (Path(encoder) / name for name in RESULTS):
        if inner.is_dir() and not (Path(encoder) / "modules.json").is_file():
            raise DataError(f"{encoder} is the folder of a run or a blend: name {inner}")


@contextmanager
def exclusive_output(directory: Path, named: Path | None = None) -> Iterator[None]:
    """Hold the lock of an output; a folder that is created for it and stays empty is removed.

    Args:
        directory: the folder that holds the lock.
        named: what the user named, if not the folder.

    Raises:
        OutputError: another process holds the lock, or the folder cannot be written.
    """
    named = named or directory
    existed = directory.exists()
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"another run is writing to {named}: wait for it, or name another --output"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{named} cannot be written ({error.strerror}): name another --output"
        ) from None
    try:
        yield
    finally:
        if not existed and [path.name for path in directory.glob("*")] in ([], [LOCK]):
            shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def disk_failure(error: BaseException) -> str | None:
    """Return why the disk refused a write, or None for an error of another kind.

    torch and safetensors raise an error of their own, whose text or context holds the reason.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in UNWRITABLE:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    is_full = "unexpected pos" in text or "PytorchStreamWriter" in text or "os error 28" in text
    return "No space left on device" if is_full or f"code: {errno.ENOSPC}" in text else None
