"""Progress of long operations: bars on a terminal, elsewhere a plain line every 10 seconds."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.retrieval.terminal import open_console

Item = TypeVar("Item")
# Stage, number done, total (None while the total is unknown).
OnProgress = Callable[[str, int, int | None], None]

LINE_SECONDS = 10.0
REPORT_EVERY = 1000  # items
# What a person reads for a stage; a stage that is not listed is shown as it is.
STAGE_NAMES = {
    "load": "loading the encoder",
    "read": "reading",
    "read bytes": "reading bytes",
    "encode": "encoding",
    "evidence": "encoding sentences",
    "index": "indexing",
    "check": "checking",
    "push": "pushing",
    "upload": "uploading bytes",
    "pull": "pulling bytes",
    "open": "opening the index",
    "search": "searching",
    "read evaluation sets": "reading evaluation sets",
    "decontaminate": "decontaminating",
    "mine": "mining",
    "blend": "measuring shares",
    "compare": "comparing",
    "prepare": "preparing",
    "train": "training",
    "write": "writing",
    "write rows": "writing rows",
    "write evaluation set": "writing the evaluation set",
}


class ProgressDisplay(Protocol):
    """An `OnProgress` that also shows facts, such as a loss, beside the numbers."""

    def __call__(self, stage: str, done: int, total: int | None, facts: str = "") -> None:
        """Show that a stage has done so much of the total."""


def ignore_progress(stage: str, done: int, total: int | None, facts: str = "") -> None:
    """Discard a progress report; the default where a caller passes no `OnProgress`."""


def counted(
    items: Iterable[Item], stage: str, on_progress: OnProgress, total: int, done: int = 0
) -> Iterator[Item]:
    """Yield items and report how many of all were yielded, after `done` earlier ones."""
    on_progress(stage, done, total)
    for count, item in enumerate(items, done + 1):
        yield item
        if count % REPORT_EVERY == 0 or count == total:
            on_progress(stage, count, total)


@contextmanager
def show_progress(
    console: Console | None = None,
    line_seconds: float = LINE_SECONDS,
    *,
    is_transient: bool = False,
) -> Iterator[ProgressDisplay]:
    """Show progress on stderr: a bar a stage on a terminal, elsewhere a line every few seconds.

    The lines come from a thread, so that a stage that reports nothing is shown, too.

    Args:
        console: where to show it; stderr by default.
        line_seconds: the time between two lines.
        is_transient: remove the bars at the end.
    """
    console = console or open_console(stderr=True)
    if console.is_terminal:
        with _bars(console, is_transient) as progress:
            yield ProgressBars(progress)
        return
    lines, ended = ProgressLines(), threading.Event()

    def print_lines() -> None:
        while not ended.wait(line_seconds):
            if line := lines.line():
                console.print(line, soft_wrap=True, markup=False, highlight=False)

    thread = threading.Thread(target=print_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class _StageState:
    stage: str
    started: float  # by the clock, at the first report
    first_done: int  # at the first report: above 0 where work is resumed
    done: int
    total: int | None
    facts: str


class ProgressLines:
    """The last progress report as a line of text, with rate and time left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a stage."""
        self._clock = clock
        self._state: _StageState | None = None

    def __call__(self, stage: str, done: int, total: int | None, facts: str = "") -> None:
        """Keep a report; a stage starts again when it has done less than before."""
        state = self._state
        if state is None or state.stage != stage or done < state.done:
            self._state = _StageState(stage, self._clock(), done, done, total, facts)
        else:
            self._state = replace(state, done=done, total=total, facts=facts)

    def line(self) -> str:
        """Return the line, such as `encoding: 1,200 of 5,000, 120/s, 0:00:32 left`."""
        state = self._state
        if state is None:
            return ""
        seconds = self._clock() - state.started
        rate = (state.done - state.first_done) / seconds if seconds else 0.0
        parts = [_amount(state)]
        if rate:
            parts.append(f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s")
        if rate and state.total is not None and state.total > state.done:
            parts.append(f"{_duration((state.total - state.done) / rate)} left")
        else:
            parts.append(f"for {_duration(seconds)}")
        if state.facts:
            parts.append(state.facts)
        return ", ".join(parts)


class ProgressBars:
    """A bar for each stage."""

    def __init__(self, progress: Progress) -> None:
        """Show the bars in a live display that is running."""
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None, facts: str = "") -> None:
        """Show the stage's bar; end the bars of earlier stages without a total."""
        if stage not in self._tasks:
            for task in self._progress.tasks:
                if task.total is None:
                    ended = max(1, int(task.completed))
                    self._progress.update(task.id, completed=ended, total=ended)
            name = STAGE_NAMES.get(stage, stage)
            self._tasks[stage] = self._progress.add_task(name, total=total, facts=facts)
        self._progress.update(self._tasks[stage], completed=done, total=total, facts=facts)


def _bars(console: Console, is_transient: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=is_transient,
    )


def _amount(state: _StageState) -> str:
    name = STAGE_NAMES.get(state.stage, state.stage)
    if state.total is not None:
        return f"{name}: {state.done:,} of {state.total:,}"
    return f"{name}: {state.done:,}" if state.done else name


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
