"""The command `clear-trainer`.

torch and transformers are imported by the commands that need them, so that `--help` is quick.
"""

import enum
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from service.retrieval.defaults import BUNDLED
from service.retrieval.errors import RetrievalError
from trainer.console import show_progress
from trainer.errors import DataError, TrainerError
from trainer.options import (
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
)
from trainer.sources.kinds import KINDS

if TYPE_CHECKING:
    from trainer.evaluation_run import Outcome

GATE_FAILED = 3


class Direction(enum.StrEnum):
    """Queries -> passages; L is any language but English."""

    ENGLISH = "en-en"
    TO_ENGLISH = "L-en"
    WITHIN = "L-L"
    FROM_ENGLISH = "en-L"
    MIXED = "mixed"


class Control(enum.StrEnum):
    """What a trained encoder should beat without training."""

    MEAN_CENTRED = "mean-centred"


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


def main() -> None:
    """Run the command line."""
    app(prog_name="clear-trainer")


@app.command("import")
def import_command(
    kind: Annotated[str, typer.Argument(help="xquad, squad, mlqa, afriqa, belebele, ...")],
    source: Annotated[str, typer.Argument(help="The data set's folder or file.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    languages: LanguagesOption = None,
    train_split: Annotated[
        str | None, typer.Option(help="The split that gives the training rows.")
    ] = None,
    evaluation_split: Annotated[
        str | None, typer.Option(help="The split that gives the evaluation set.")
    ] = None,
    held_out_share: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Of the documents, for evaluation (a third)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides what is held out (0).")] = None,
    decontaminate: Annotated[
        list[Path] | None,
        typer.Option(help="An evaluation set whose passages and questions no row may have."),
    ] = None,
    keep_contaminated: Annotated[
        bool, typer.Option(help="Count such rows in the data card, and keep them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a published data set into training rows and an evaluation set, with a data card."""
    from trainer.importing import import_data

    if kind not in KINDS:
        raise DataError(f"there is no import of {kind!r}: name one of {', '.join(KINDS)}")
    card = import_data(
        kind,
        Path(source),
        output,
        decontaminate_from=decontaminate or (),
        keep_contaminated=keep_contaminated,
        languages=languages,
        train_split=train_split,
        evaluation_split=evaluation_split,
        held_out_share=held_out_share,
        seed=seed,
    )
    typer.echo(json.dumps(card.as_dict(), indent=1) if as_json else card.as_markdown(), nl=as_json)


@app.command("evaluate")
def evaluate_command(
    sets_or_kind: Annotated[
        list[str],
        typer.Argument(
            metavar="[KIND] SET...",
            help="Folders of evaluation sets; or a kind of `import` and its data's folder.",
        ),
    ],
    encoder: EncoderOption = BUNDLED,
    against: Annotated[
        str | None,
        typer.Option(envvar="CLEAR_TRAINER_AGAINST", help="An encoder to compare with: the base."),
    ] = None,
    control: Annotated[
        Control | None, typer.Option(help="Measure the base with its training-free rival, too.")
    ] = None,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
    languages: LanguagesOption = None,
    directions: Annotated[
        list[Direction] | None,
        typer.Option(
            "--direction", help="Queries to passages; repeat it for more. All by default."
        ),
    ] = None,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(help="Training rows: queries whose passage is not in them count apart, too."),
    ] = None,
    english_margin: Annotated[
        float, typer.Option(min=0, help="English -> English may lose this much nDCG@10.")
    ] = 0.005,
    indexes: Annotated[
        Path | None,
        typer.Option(envvar="CLEAR_TRAINER_INDEXES", help="Keep embedded corpora here."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            envvar="CLEAR_TRAINER_OUTPUT",
            help="A folder for report.html, report.md, report.json and TREC run files.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well an encoder retrieves; exit code 3 where English got worse than the base."""
    from trainer.evaluation_sets import open_sets, seen_queries
    from trainer.languages import known_language

    with ExitStack() as stack:
        # Read before torch is loaded: a wrong folder is told at once.
        sets = open_sets(sets_or_kind, stack)
        chosen = [known_language(code) for code in languages or ()]
        seen = seen_queries(sets, trained_on) if trained_on else None

        from trainer.evaluation_run import EncoderOptions, Plan, run_evaluation, write_outcome

        options = EncoderOptions(device, max_tokens, cpu_engine, precision, cache)
        plan = Plan(
            languages=chosen,
            directions=directions or tuple(Direction),
            seen=seen,
            margin=english_margin,
            indexes=indexes,
            output=output,
        )
        with show_progress() as on_progress:
            outcome = run_evaluation(
                sets,
                encoder,
                against=against,
                with_control=control is not None,
                options=options,
                plan=plan,
                on_progress=on_progress,
            )
    if output:
        write_outcome(output, outcome)
    _print_outcome(outcome, as_json)
    if not outcome.passes:
        raise typer.Exit(GATE_FAILED)


def _print_outcome(outcome: "Outcome", as_json: bool) -> None:
    from trainer.report import comparison_table, conditions_line, evaluation_tables

    if as_json:
        typer.echo(json.dumps(outcome.as_dict(), indent=1))
        return
    console = Console()
    for evaluation in outcome.evaluations:
        for table in evaluation_tables(evaluation):
            console.print(table)
        typer.echo(conditions_line(evaluation))
    for comparison in outcome.comparisons:
        console.print(comparison_table(comparison))
        for gate in comparison.gates:
            typer.echo(gate.verdict)
