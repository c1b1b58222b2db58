"""The command `clear-trainer`.

Each command imports torch and transformers itself, so that `--help` is fast.
"""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from service.retrieval import interruption
from service.retrieval.errors import RetrievalError
from trainer.cli import blend, calibrate, evaluate, prepare, publish, train
from trainer.cli.crash_report import report_crash
from trainer.errors import TrainerError


class Commands(TyperGroup):
    """The group of commands; a known error ends in one line, no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with 1 after a known error."""
        try:
            return super().invoke(ctx)
        except (RetrievalError, TrainerError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and evaluate encoders for CLEAR Search.",
    epilog="`--json` (CLEAR_JSON=1) prints JSON for programs: `import`, `train`, `evaluate`, "
    "`blend`, `calibrate` and `publish` take it.",
)
# In the order in which they are used; `--help` lists them so.
app.add_typer(prepare.app)
app.add_typer(train.app)
app.add_typer(evaluate.app)
app.add_typer(blend.app)
app.add_typer(calibrate.app)
app.add_typer(publish.app)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"clear-trainer {version('clear-search')}")
        raise typer.Exit


@app.callback()
def options(
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options of the program."""


def main() -> None:
    """Run the command line; an unexpected error is one line, and its traceback a file.

    A signal unwinds the command.
    """
    sys.excepthook = report_crash
    with interruption.unwinding():
        get_command(app)(prog_name="clear-trainer")  # `app()` would set a hook of its own
