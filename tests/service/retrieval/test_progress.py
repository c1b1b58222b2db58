"""Progress as plain lines (with a clock that tests move) and as bars."""

import io
import re
import threading

import pytest
from rich.console import Console

from service.retrieval.progress import ProgressLines, show_progress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_says_phase_done_of_all_rate_and_time_left(clock: Clock) -> None:
    lines = ProgressLines(clock)
    lines("encode", 0, 5000)
    clock.now += 10
    lines("encode", 1200, 5000)

    assert lines.line() == "encoding: 1,200 of 5,000, 120/s, 0:00:32 left"


def test_there_is_no_line_before_the_first_report(clock: Clock) -> None:
    assert ProgressLines(clock).line() == ""


def test_the_rate_of_resumed_work_counts_only_what_this_run_did(clock: Clock) -> None:
    lines = ProgressLines(clock)
    lines("mine", 900, 1000)
    clock.now += 10
    lines("mine", 950, 1000)

    assert lines.line() == "mining: 950 of 1,000, 5/s, 0:00:10 left"


def test_a_phase_without_a_total_shows_its_count_and_its_time(clock: Clock) -> None:
    lines = ProgressLines(clock)
    lines("read", 0, None)
    clock.now += 20
    lines("read", 4096, None)

    assert lines.line() == "reading: 4,096, 205/s, for 0:00:20"


def test_a_phase_that_reports_nothing_more_shows_how_long_it_lasts(clock: Clock) -> None:
    lines = ProgressLines(clock)
    lines("encode", 10, 10)
    lines("load", 0, None)
    clock.now += 12

    assert lines.line() == "loading the encoder, for 0:00:12"


def test_a_phase_that_starts_again_has_a_rate_of_its_own(clock: Clock) -> None:
    lines = ProgressLines(clock)
    lines("train", 0, 100)
    clock.now += 50
    lines("train", 100, 100)
    lines("train", 0, 100)
    clock.now += 100
    lines("train", 10, 100, "loss 1.5")

    assert lines.line() == "training: 10 of 100, 0.1/s, 0:15:00 left, loss 1.5"


class Output(io.StringIO):
    """Text output that says when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def flush(self) -> None:
        if self.getvalue():
            self.written.set()


def test_without_a_terminal_a_silent_phase_is_shown_in_plain_lines() -> None:
    output = Output()

    with show_progress(Console(file=output), line_seconds=0.001) as on_progress:
        on_progress("[load]", 0, None)
        assert output.written.wait(30)

    assert output.getvalue().startswith("[load], for 0:00:00\n")
    assert "\x1b" not in output.getvalue()


def test_without_a_terminal_short_work_prints_nothing() -> None:
    output = Output()

    with show_progress(Console(file=output)) as on_progress:
        on_progress("encode", 1, 1)

    assert output.getvalue() == ""


def test_a_terminal_shows_a_bar_for_each_phase_with_its_facts() -> None:
    output = io.StringIO()

    with show_progress(Console(file=output, force_terminal=True, width=120)) as on_progress:
        on_progress("load", 0, None)
        on_progress("encode", 2, 4)
        on_progress("train", 3, 4, "loss 1.5")

    last = output.getvalue()
    assert "loading the encoder" in last
    assert "2/4" in last
    assert "3/4" in last
    assert "loss 1.5" in last
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", last)
    assert re.search(r" \d:\d\d:\d\d elapsed, [-\d]:[-\d]{2}:[-\d]{2} left", plain)
    assert "0/?" not in last.rpartition("loading the encoder")[2]
