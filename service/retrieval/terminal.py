"""Consoles of both programs: as wide as the terminal, or, in a file or a pipe, without wrapping."""

import os
import sys

from rich.console import Console
from rich.table import Table

UNLIMITED = 100_000  # columns


def is_terminal(*, stderr: bool = False) -> bool:
    """Return whether stdout, or else stderr, is a terminal, whose lines wrap at its width."""
    return (sys.stderr if stderr else sys.stdout).isatty()


def open_console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr.

    In a file or a pipe rich assumes 80 columns: lines would break inside paths, and columns of a
    table would be cut. The environment variable `COLUMNS` sets the width in every case.

    Args:
        stderr: write to stderr instead of stdout.
    """
    is_limited = is_terminal(stderr=stderr) or "COLUMNS" in os.environ
    width = None if is_limited else UNLIMITED
    return Console(stderr=stderr, highlight=not stderr, width=width)


def print_table(table: Table) -> None:
    """Print a table on stdout; in a file or a pipe its lines have no trailing spaces."""
    console = open_console()
    if is_terminal():
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")
