"""SIGTERM and SIGINT: each ends the program within about a second, from its first line on.

Python runs a signal handler between two bytecodes of the main thread, which may be a long time in
C. So a thread watches for signals, too. The process ends without waiting for other threads. Every
file that counts is renamed into place when it is complete, so that an end at any time is safe.

Imports only the standard library: an entry point calls `listen` before anything else is imported.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
UNWIND_SECONDS = 0.6
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Interrupted(BaseException):
    """Unwinds the main thread after a signal; libraries would catch a KeyboardInterrupt."""


class _Program:
    """What this process does at a signal, and the signal that it has received."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.unwinds = False
        self.defers = False
        self.deferred: int | None = None
        self.message: str | Callable[[], str] = "interrupted"
        self.temporary: set[Path] = set()
        self.is_ending = threading.Lock()


_program = _Program()


def listen() -> None:
    """End this process at SIGTERM or SIGINT from now on; PID 1 would ignore SIGTERM otherwise."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


@contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal raise `Interrupted` in the main thread, and end the process after the block.

    Without this block a signal ends the process at once. Context managers in the block have
    `UNWIND_SECONDS` to clean up.
    """
    _program.unwinds = True
    try:
        yield
    finally:
        _program.unwinds = False
        if _program.received is not None:
            end(_program.received)


@contextmanager
def deferring() -> Iterator[Callable[[], bool]]:
    """Only note the first signal in the block; a second one ends the process at once.

    Yields a function that returns whether a signal was noted: the block asks it at each place where
    it can stop. The process ends after the block, as if the signal came then.
    """
    _program.defers = True
    try:
        yield lambda: _program.deferred is not None
    finally:
        _program.defers = False
    if _program.deferred is not None:
        _program.received = _program.deferred
        raise Interrupted


@contextmanager
def reporting(message: str | Callable[[], str]) -> Iterator[None]:
    """Print this message, such as what is kept, if a signal ends the process in the block.

    A function is called when the process ends, in any thread.
    """
    previous, _program.message = _program.message, message
    try:
        yield
    finally:
        if _program.received is None:  # else `end` is still to print it
            _program.message = previous


@contextmanager
def removing(directory: Path) -> Iterator[None]:
    """Remove a temporary folder after the block, or when a signal ends the process in it."""
    _program.temporary.add(directory)
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        _program.temporary.discard(directory)


def end(number: int) -> NoReturn:
    """Remove temporary folders, print one line, and end the process with 128 + the signal."""
    _program.is_ending.acquire()  # never released: another thread that ends must wait
    for directory in tuple(_program.temporary):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):  # stderr may be closed
        message = _program.message if isinstance(_program.message, str) else _program.message()
        line = f"error: {message}\n"
        os.write(2, (SHOW_CURSOR + line if os.isatty(2) else line).encode())
    os._exit(128 + number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _program.received is not None:  # it is ending
        return
    if _program.defers and _program.deferred is None:
        _program.deferred = number
        return
    _program.received = number
    if _program.unwinds:
        raise Interrupted
    end(number)


def _on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Print what Python cannot pass on, but `Interrupted`: `_watch` ends the process then."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _watch(reader: int) -> None:
    """End the process if the main thread has not done so a moment after a signal."""
    is_deferred = False
    while (number := os.read(reader, 1)[0]) not in SIGNALS or _program.defers and not is_deferred:
        is_deferred = number in SIGNALS
    if _program.unwinds:
        time.sleep(UNWIND_SECONDS)
    end(number)
