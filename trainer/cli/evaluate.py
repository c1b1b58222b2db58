"""The commands `evaluate`, which measures encoders, and `report`, which renders the page again."""

import enum
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.retrieval import interruption
from service.retrieval.defaults import BUNDLED
from service.retrieval.progress import show_progress
from service.retrieval.terminal import print_table
from trainer.cli.options import (
    GATE_FAILED,
    BlendCurveOption,
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EncoderOption,
    EnglishMarginOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
    TrainingLogOption,
)

if TYPE_CHECKING:
    from trainer.data.evaluation_set import EvaluationSet
    from trainer.evaluation.gates import GateRule
    from trainer.report.run import Outcome

app = typer.Typer()


class Direction(enum.StrEnum):
    """Language of the queries -> language of the passages; L is any language but English."""

    ENGLISH = "en-en"
    TO_ENGLISH = "L-en"
    WITHIN = "L-L"
    FROM_ENGLISH = "en-L"
    MIXED = "mixed"


class Control(enum.StrEnum):
    """A training-free method that a trained encoder should outperform."""

    MEAN_CENTERED = "mean-centred"


SetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[KIND] SET...",
        help="Folders of evaluation sets; or a kind of `import` and the folder of its data.",
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(envvar="CLEAR_TRAINER_AGAINST", help="The base encoder to compare with."),
]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option(help="A further encoder for tables and plots, not compared; repeat for more."),
]
ControlOption = Annotated[
    Control | None, typer.Option(help="Also measure the base with a training-free method.")
]
DirectionsOption = Annotated[
    list[Direction] | None,
    typer.Option(
        "--direction",
        help="Languages of queries and passages; repeat for more. Default: all.",
    ),
]
TrainedOnOption = Annotated[
    list[Path] | None,
    typer.Option(help="Training rows: also measure the queries whose passage is not in them."),
]
MaxQueriesOption = Annotated[
    int,
    typer.Option(min=0, help="Queries of each language, spread evenly over a set; 0 for all."),
]
GatesOption = Annotated[
    Path | None,
    typer.Option(help="A file of gates (TOML) against the base; exit code 3 if one fails."),
]
IndexesOption = Annotated[
    Path | None,
    typer.Option(envvar="CLEAR_TRAINER_INDEXES", help="Keep embedded corpora and queries here."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        envvar="CLEAR_TRAINER_OUTPUT",
        help="Folder for report.html, coverage.csv, languages.json and the other reports.",
    ),
]


@app.command("evaluate")
def evaluate_command(
    sets_or_kind: SetsArgument,
    encoder: EncoderOption = BUNDLED,
    against: AgainstOption = None,
    also: AlsoOption = None,
    control: ControlOption = None,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
    languages: LanguagesOption = None,
    directions: DirectionsOption = None,
    trained_on: TrainedOnOption = None,
    max_queries: MaxQueriesOption = 0,
    english_margin: EnglishMarginOption = 0.005,
    gates: GatesOption = None,
    indexes: IndexesOption = None,
    output: OutputOption = None,
    training_log: TrainingLogOption = None,
    blend_curve: BlendCurveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well an encoder retrieves; exit code 3 if a gate against the base fails."""
    from trainer.data.languages import known_language
    from trainer.evaluation.sets import open_sets, seen_queries
    from trainer.report.page import read_training

    with ExitStack() as stack:
        on_progress = stack.enter_context(show_progress())
        on_progress("read", 0, None)
        # Read the inputs before torch is loaded, so that a wrong folder fails at once.
        sets = open_sets(sets_or_kind, stack, max_queries)
        chosen = [known_language(code) for code in languages or ()]
        measured = directions or tuple(Direction)
        rules = _read_rules(gates, against, sets, chosen, measured)
        seen = seen_queries(sets, trained_on) if trained_on else None
        training = read_training(training_log, blend_curve)
        if output:
            _claim(output, [*map(Path, sets_or_kind), *(each.directory for each in sets)], stack)
        from trainer.report import run

        options = run.EvaluationOptions(
            chosen, measured, seen, english_margin, rules, indexes, output
        )
        outcome = run.run_evaluation(
            sets,
            encoder,
            against=against,
            also=also or (),
            with_control=control is not None,
            encoder_options=run.EncoderOptions(device, max_tokens, cpu_engine, precision, cache),
            options=options,
            on_progress=on_progress,
        )
        if output:
            run.write_outcome(output, outcome, training)
    _print_outcome(outcome, as_json)
    if not outcome.passes:
        raise typer.Exit(GATE_FAILED)


def _claim(output: Path, inputs: Sequence[Path], stack: ExitStack) -> None:
    """Hold the output until the stack closes; refuse an input and a folder of other content."""
    from trainer.errors import DataError, OutputError
    from trainer.output import exclusive_output, refuse_input, refuse_other_files
    from trainer.report.page import read_report
    from trainer.report.plots import require_matplotlib

    require_matplotlib()
    refuse_input(output, inputs)
    refuse_other_files(output, ("report.md", "report.html", "languages.json"), "report.json")
    if (output / "report.json").exists():
        try:
            read_report(output / "report.json")
        except DataError as error:
            raise OutputError(
                f"{output} has other content ({error}): name another folder"
            ) from None
    stack.enter_context(exclusive_output(output))
    kept = "interrupted: the same command continues, what was embedded is kept"
    stack.enter_context(interruption.reporting(kept))


def _read_rules(
    gates: Path | None,
    against: str | None,
    sets: "Sequence[EvaluationSet]",
    languages: Sequence[str],
    directions: Sequence[str],
) -> "list[GateRule]":
    from trainer.evaluation.gates import check_evaluated, read_gates

    if gates and not against:
        raise typer.BadParameter("needs --against BASE", param_hint="--gates")
    if not gates:
        return []
    rules = read_gates(gates)
    check_evaluated(gates, rules, sets, languages, directions)
    return rules


def _print_outcome(outcome: "Outcome", as_json: bool) -> None:
    from trainer.report.tables import comparison_table, conditions_line, evaluation_tables

    if as_json:
        typer.echo(json.dumps(outcome.as_dict(), indent=1))
        return
    for evaluation in outcome.evaluations:
        for table in evaluation_tables(evaluation):
            print_table(table)
        typer.echo(conditions_line(evaluation))
    for comparison in outcome.comparisons:
        print_table(comparison_table(comparison))
        for gate in comparison.gates:
            typer.echo(gate.verdict)
    for verdict in outcome.verdicts:
        typer.echo(verdict.verdict)


@app.command("report")
def report_command(
    output: Annotated[Path, typer.Argument(help="The folder of `evaluate --output`.")],
    training_log: TrainingLogOption = None,
    blend_curve: BlendCurveOption = None,
) -> None:
    """Render the page of an evaluation again, optionally with training's losses and a blend."""
    from service.retrieval.storage.artifact import replace_file
    from trainer.report.page import html_page, read_report, read_training

    content = read_report(output / "report.json")
    page = html_page(content, read_training(training_log, blend_curve))
    replace_file(output / "report.html", page.encode())
    typer.echo(str(output / "report.html"))
