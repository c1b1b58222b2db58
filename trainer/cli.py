"""The command `clear-trainer`.

torch and transformers are imported by the commands that need them, so that `--help` is quick.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from service.retrieval.defaults import BUNDLED
from service.retrieval.errors import RetrievalError
from trainer import finishing
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from service.retrieval.building import OnProgress
    from trainer.evaluate import Evaluation


EncoderOption = Annotated[
    str,
    typer.Option(envvar="CLEAR_ENCODER", help="`bundled`, a folder, or owner/name@commit."),
]
DeviceOption = Annotated[
    str, typer.Option(envvar="CLEAR_DEVICE", help="auto, cpu, cuda or cuda:N.")
]
CpuEngineOption = Annotated[
    str, typer.Option(envvar="CLEAR_CPU_ENGINE", help="On a CPU: auto, torch or openvino.")
]
PrecisionOption = Annotated[
    str, typer.Option(envvar="CLEAR_PRECISION", help="auto, fp32, bf16, fp16 or int8.")
]
MaxTokensOption = Annotated[
    int,
    typer.Option(
        envvar="CLEAR_MAX_TOKENS",
        min=16,
        help="Texts are cut here; the known figures are for 256.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="CLEAR_CACHE", help="The folder that keeps the bundled encoder."),
]
LanguagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--language",
        envvar="CLEAR_TRAINER_LANGUAGE",
        help="A query language; repeat it for more. All of the folder by default.",
    ),
]
RunsOption = Annotated[
    Path | None,
    typer.Option(envvar="CLEAR_TRAINER_RUNS", help="A folder for one TREC run file a language."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON, not a table.")
]


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
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure how well an encoder retrieves.")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(finishing.app)


def main() -> None:
    """Run the command line."""
    app(prog_name="clear-trainer")


@evaluate_app.command("xquad")
def evaluate_xquad(
    directory: Annotated[Path, typer.Argument(help="The folder of xquad.<language>.json.")],
    encoder: EncoderOption = BUNDLED,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
    languages: LanguagesOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask XQuAD's questions in each language of its English passages, and print the measures."""
    from trainer.xquad import ENGLISH, read_xquad, xquad_languages

    # Read before torch is loaded: a wrong folder is told at once.
    languages = list(dict.fromkeys(languages or xquad_languages(directory)))
    data = {language: read_xquad(directory, language) for language in [ENGLISH, *languages]}

    from service.retrieval.checkpoint import load_encoder
    from trainer.evaluate import evaluate

    loaded = load_encoder(
        encoder,
        cache=cache,
        device=device,
        max_tokens=max_tokens,
        cpu_engine=cpu_engine,
        precision=precision,
    )
    with _progress() as on_progress:
        evaluation = evaluate(loaded, data, languages, on_progress, runs=runs)
    _print_evaluation(evaluation, as_json)


def _print_evaluation(evaluation: "Evaluation", as_json: bool) -> None:
    from trainer.report import conditions_line, evaluation_json, evaluation_table

    if as_json:
        typer.echo(evaluation_json(evaluation))
        return
    Console().print(evaluation_table(evaluation))
    typer.echo(conditions_line(evaluation))


@contextmanager
def _progress() -> "Iterator[OnProgress]":
    """Show a bar a stage on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield on_progress
