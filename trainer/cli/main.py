"""The command `clear-trainer`.

Each command imports torch and transformers itself, so that `--help` is fast.
"""

import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from service.retrieval.errors import RetrievalError
from trainer.cli import evaluate, prepare, publish, train
from trainer.cli.crash_report import report_crash
from trainer.errors import TrainerError


class Commands(TyperGroup):
    """The group of commands; a known error or an interrupt ends in one line, no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with 1 after a known error, with 130 after an interrupt."""
        try:
            return super().invoke(ctx)
        except (RetrievalError, TrainerError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("error: interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and evaluate encoders for CLEAR Search.",
)
# In the order in which they are used; `--help` lists them so.
app.add_typer(prepare.app)
app.add_typer(train.app)
app.add_typer(evaluate.app)
app.add_typer(publish.app)


def main() -> None:
    """Run the command line; an unexpected error is one line, and its traceback a file."""
    sys.excepthook = report_crash
    get_command(app)(prog_name="clear-trainer")  # `app()` would set a hook of its own
