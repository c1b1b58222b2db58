"""The command `clear-trainer`.

torch and transformers are imported by the commands that need them, so that `--help` is quick.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from service.retrieval.errors import RetrievalError
from trainer.cli import evaluate as assessing
from trainer.cli import prepare as preparing
from trainer.cli import publish as finishing
from trainer.cli import train as running
from trainer.errors import TrainerError


class Commands(TyperGroup):
    """The commands; what a user can mend, or has stopped, ends in one line and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
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
app.add_typer(preparing.app)  # in the order of their work, which is that of `--help`
app.add_typer(running.app)
app.add_typer(assessing.app)
app.add_typer(finishing.app)


def main() -> None:
    """Run the command line."""
    app(prog_name="clear-trainer")
