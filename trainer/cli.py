"""The command `clear-trainer`.

torch and transformers are imported by the commands that need them, so that `--help` is quick.
"""

import enum
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.errors import RetrievalError
from trainer import finishing
from trainer.console import show_progress
from trainer.errors import DataError, TrainerError
from trainer.options import (
    BlendCurveOption,
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
    TrainingLogOption,
)
from trainer.run_summary import run_summary
from trainer.sources.kinds import KINDS

if TYPE_CHECKING:
    from trainer.ablate import Train
    from trainer.evaluation_run import Outcome

GATE_FAILED = 3


class Direction(enum.StrEnum):
    """Queries -> passages; L is any language but English."""

    ENGLISH = "en-en"
    TO_ENGLISH = "L-en"
    WITHIN = "L-L"
    FROM_ENGLISH = "en-L"
    MIXED = "mixed"


class QuerySide(enum.StrEnum):
    """The side of a row that searches for its negatives."""

    ENGLISH = "english"
    TRANSLATED = "translated"


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
app.add_typer(finishing.app)


def main() -> None:
    """Run the command line."""
    app(prog_name="clear-trainer")


@app.command("import")
def import_command(
    kind: Annotated[str, typer.Argument(help="xquad, squad, mlqa, afriqa, belebele, ...")],
    source: Annotated[
        str, typer.Argument(help="The data set's folder or file, or owner/name@commit on the Hub.")
    ],
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
    own_passages: Annotated[
        bool,
        typer.Option(
            "--own-passages", help="Of aligned lines: each sentence's passage is its English line."
        ),
    ] = False,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="A table's roles by the order of its columns.")
    ] = False,
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
        source,
        output,
        decontaminate_from=decontaminate or (),
        keep_contaminated=keep_contaminated,
        languages=languages,
        train_split=train_split,
        evaluation_split=evaluation_split,
        held_out_share=held_out_share,
        seed=seed,
        own_passages=own_passages,
        by_position=by_position,
    )
    typer.echo(json.dumps(card.as_dict(), indent=1) if as_json else card.as_markdown(), nl=as_json)


@app.command("mine")
def mine_command(
    rows: Annotated[Path, typer.Argument(help="Training rows (.jsonl).")],
    output: Annotated[Path, typer.Option(help="The file to write: the rows with negatives.")],
    num_negatives: Annotated[int, typer.Option(min=1, help="Of each row.")] = 5,
    first_rank: Annotated[
        int, typer.Option(min=1, help="Of the window of ranks, known positives not counted.")
    ] = 50,
    last_rank: Annotated[int, typer.Option(min=1, help="Of the window of ranks.")] = 100,
    max_relative_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Only passages scored at most this much of the positive."),
    ] = None,
    query_side: Annotated[QuerySide, typer.Option(help="The queries that search.")] = (
        QuerySide.ENGLISH
    ),
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Any passage, without a query that asks for it.")
    ] = False,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Passages beside the rows' own (.jsonl, .parquet, BEIR); --unpaired."),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Take the window's first, do not draw at random.")
    ] = False,
    keep_incomplete: Annotated[
        bool, typer.Option(help="Keep rows that got fewer negatives, too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    encoder: EncoderOption = BUNDLED,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
) -> None:
    """Find hard negative passages for training rows, and queries that ask for those."""
    from trainer.mining import MiningOptions

    options = MiningOptions(
        num_negatives=num_negatives,
        first_rank=first_rank,
        last_rank=last_rank,
        max_relative_score=max_relative_score,
        query_side=query_side.value,
        is_paired=not unpaired,
        is_random=not best,
        seed=seed,
    )
    from trainer.mining_run import mine_rows, read_known

    known = read_known(rows, corpus or (), options)  # a bad row is told before the encoder loads

    from service.retrieval.checkpoint import load_encoder

    loaded = load_encoder(
        encoder,
        cache=cache,
        device=device,
        max_tokens=max_tokens,
        cpu_engine=cpu_engine,
        precision=precision,
    )
    with show_progress() as on_progress:
        report = mine_rows(
            rows,
            known,
            output,
            loaded,
            options,
            keep_incomplete=keep_incomplete,
            on_progress=on_progress,
        )
    typer.echo(
        f"{report.num_rows - report.num_left_out} rows with negatives in {output}; "
        f"{report.num_left_out} left out for want of candidates; "
        f"{report.num_resumed} were mined before"
    )


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
    training_log: TrainingLogOption = None,
    blend_curve: BlendCurveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well an encoder retrieves; exit code 3 where English got worse than the base."""
    from trainer.evaluation_sets import open_sets, seen_queries
    from trainer.languages import known_language
    from trainer.page import read_training
    from trainer.plots import require_matplotlib

    with ExitStack() as stack:
        # Read before torch is loaded: a wrong folder is told at once.
        sets = open_sets(sets_or_kind, stack)
        chosen = [known_language(code) for code in languages or ()]
        seen = seen_queries(sets, trained_on) if trained_on else None
        training = read_training(training_log, blend_curve)
        if output:
            require_matplotlib()

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
        write_outcome(output, outcome, training)
    _print_outcome(outcome, as_json)
    if not outcome.passes:
        raise typer.Exit(GATE_FAILED)


@app.command("report")
def report_command(
    output: Annotated[Path, typer.Argument(help="The folder of `evaluate --output`.")],
    training_log: TrainingLogOption = None,
    blend_curve: BlendCurveOption = None,
) -> None:
    """Make the page of an evaluation again, with what training has written meanwhile."""
    from service.retrieval.artifact import replace_file
    from trainer.page import html_page, read_report, read_training

    content = read_report(output / "report.json")
    page = html_page(content, read_training(training_log, blend_curve))
    replace_file(output / "report.html", page.encode())
    typer.echo(str(output / "report.html"))


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(help="A .toml file; trainer/configs holds some.")],
    run: Annotated[
        Path,
        typer.Option(
            "--output",
            envvar="CLEAR_TRAINER_RUN",
            help="The run's folder; a run that was stopped goes on from its last checkpoint.",
        ),
    ],
    seed: Annotated[
        int | None,
        typer.Option(envvar="CLEAR_TRAINER_SEED", help="In place of the configuration's."),
    ] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder, or a query-side adapter; exit code 3 where English got worse."""
    from trainer.config import read_config

    told = read_config(config)  # before torch is loaded: a wrong field is told at once
    if seed is not None:
        told = told.model_copy(update={"seed": seed})
    with _training(cache, device) as train:
        record = train(told, run)
    if "output" in record:  # of several processes, the first tells
        typer.echo(json.dumps(record, indent=1) if as_json else run_summary(run, record))
    if not record.get("english_gate", True):
        raise typer.Exit(GATE_FAILED)


@app.command("ablate")
def ablate_command(
    grid: Annotated[Path, typer.Argument(help="A .toml file; trainer/configs holds some.")],
    output: Annotated[
        Path,
        typer.Option(
            envvar="CLEAR_TRAINER_ABLATION",
            help="The folder of runs, table.md and plot.png; what is done is not done again.",
        ),
    ],
    device: DeviceOption = "auto",
    cache: CacheOption = None,
) -> None:
    """Train every variant of a grid with every seed; one table and one plot."""
    from trainer.ablate import ablate
    from trainer.grid import read_grid

    read_grid(grid)  # before torch is loaded: a wrong field is told at once

    def on_cell(name: str, number: int, count: int) -> None:
        typer.echo(f"run {number + 1} of {count}: {name}", err=True)

    with _training(cache, device) as train:
        table = ablate(grid, output, train, on_cell)
    typer.echo(table.read_text(encoding="utf-8"), nl=False)


@contextmanager
def _training(cache: Path | None, device: str) -> "Iterator[Train]":
    """Train with progress on the terminal; yields what runs one configuration in one folder."""
    from trainer.progress import StepProgress
    from trainer.training import train

    with show_progress() as on_progress:
        yield lambda config, run: train(
            config,
            run,
            cache=cache or default_cache(),
            device=device,
            on_progress=on_progress,
            callbacks=[StepProgress(run)],
        )


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
