"""The terminal: messages and one-line errors on stderr; stdout is for results."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from service.errors import ServiceError
from service.retrieval import interruption
from service.retrieval.errors import RetrievalError
from service.retrieval.terminal import is_terminal, open_console

if TYPE_CHECKING:
    from service.retrieval.checkpoint.prompts.prompts import Prompts


def stderr_console() -> Console:
    """Return a console on stderr, for messages to people."""
    return open_console(stderr=True)


def count_of(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, and what follows it.

    >>> count_of(1, "passage"), count_of(0, "passage"), count_of(2, "passage was", "passages were")
    ('1 passage', '0 passages', '2 passages were')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def print_any_text() -> None:
    """Escape what the locale's encoding does not have, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def start_logging(level: str, log_format: str = "text") -> None:
    """Log to stderr, one line per record: as text for people, or as JSON for programs."""
    from rich.logging import RichHandler

    from service.telemetry.logs import JsonFormatter, TextFormatter

    handler: logging.Handler
    if log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
    elif not is_terminal(stderr=True):  # in a file, each record is one line, whatever its length
        handler = logging.StreamHandler()
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-8s %(message)s"))
    else:
        handler = RichHandler(console=stderr_console(), show_path=False, rich_tracebacks=False)
        handler.setFormatter(TextFormatter("%(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level.upper() != "DEBUG":  # its wheel lacks modules for the newest CPUs, and logs each one
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def print_prompts(prompts: "Prompts") -> None:
    """Print the prompts in force, and a warning if nobody states whether there are any."""
    for line in prompts.lines:
        stderr_console().print(line, soft_wrap=True, markup=False)
    print_warning(prompts.warning)


def print_warning(message: str) -> None:
    """Print a warning in one line, or nothing if it is empty."""
    if message:
        stderr_console().print(f"warning: {message}", soft_wrap=True, markup=False)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print an error in one line and end with an exit code."""
    line = Text.assemble(("error:", "red"), " ", " ".join(message.split()))
    stderr_console().print(line, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def one_line_errors(on_interrupt: str = "interrupted") -> Iterator[None]:
    """Turn errors that a user can fix into one line and a non-zero exit code.

    Args:
        on_interrupt: the line for a signal that ends the program; it says what is kept.
    """
    try:
        with interruption.reporting(on_interrupt):
            yield
    except (ServiceError, RetrievalError) as error:
        fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(1) from None
