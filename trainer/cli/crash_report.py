"""Unexpected errors of the command line: one line on stderr, and a file with the traceback."""

import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType


def report_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an unexpected error in one line; as `sys.excepthook`, it leaves the exit code 1.

    Only an operating system's error is quoted: any other message may hold the text of a passage.
    """
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    text = "".join(traceback.format_exception(kind, error, trace))
    what = kind.__name__
    if issubclass(kind, OSError):
        what = " ".join(f"{what}: {error}".split())
    sys.stderr.write(f"error: {what}{_place(trace)}, {_kept(text)}\n")


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _kept(text: str) -> str:
    """Write the traceback to a file that only this user can read, and name the file."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", prefix="clear-trainer-", suffix=".log",
            delete=False,
        ) as file:  # fmt: skip
            file.write(text)
    except OSError as error:
        return f"and its traceback cannot be written ({error.strerror}): free disk space"
    return f"which is not expected: please report it with the traceback in {file.name}"
