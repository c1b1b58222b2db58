"""The commands `train`, which trains one configuration, and `ablate`, which trains a grid."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.retrieval.defaults import MAX_SEED, default_cache
from service.retrieval.progress import ignore_progress, show_progress
from trainer.cli.options import GATE_FAILED, CacheOption, DeviceOption, JsonOption

if TYPE_CHECKING:
    from trainer.ablation.run import Train
    from trainer.config import RunConfig

app = typer.Typer()


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(help="A .toml file; trainer/configs has examples.")],
    run: Annotated[
        Path,
        typer.Option(
            "--output",
            envvar="CLEAR_TRAINER_RUN",
            help="The run's folder; a stopped run resumes from its last checkpoint.",
        ),
    ],
    seed: Annotated[
        int | None,
        typer.Option(
            envvar="CLEAR_TRAINER_SEED",
            min=0,
            max=MAX_SEED,
            help="Overrides the configuration's seed.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder or a query-side adapter; exit code 3 if English got worse."""
    from trainer.config import read_config

    run_config = read_config(config)  # before torch is loaded: a wrong field fails at once
    if seed is not None:
        run_config = run_config.model_copy(update={"seed": seed})
    with _training(cache, device) as train:
        record = train(run_config, run)
    from trainer.training.run_directory import run_summary

    if "output" in record:  # of several processes, only the first reports
        typer.echo(json.dumps(record, indent=1) if as_json else run_summary(run, record))
    if not record.get("english_gate", True):
        raise typer.Exit(GATE_FAILED)


@app.command("ablate")
def ablate_command(
    grid: Annotated[Path, typer.Argument(help="A .toml file; trainer/configs has examples.")],
    output: Annotated[
        Path,
        typer.Option(
            envvar="CLEAR_TRAINER_ABLATION",
            help="Folder for runs, table.md and plot.png; finished runs are skipped.",
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            envvar="CLEAR_TRAINER_VARIANTS",
            help="Run only this variant, as when machines share a grid; repeat for more.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(envvar="CLEAR_TRAINER_SEEDS", help="Run only this seed; repeat for more."),
    ] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
) -> None:
    """Train every variant of a grid with every seed; write one table and one plot."""
    from trainer.ablation.grid import read_grid, select_cells
    from trainer.ablation.run import ablate

    variants, seeds = variant or (), seed or ()
    # Checked before torch is loaded, so that a wrong name fails at once.
    select_cells(read_grid(grid)[1], variants, seeds)

    def on_cell(name: str, number: int, count: int) -> None:
        typer.echo(f"run {number + 1} of {count}: {name}", err=True)

    with _training(cache, device) as train:
        table = ablate(grid, output, train, on_cell, variants=variants, seeds=seeds)
    typer.echo(table.read_text(encoding="utf-8"), nl=False)


@contextmanager
def _training(cache: Path | None, device: str) -> "Iterator[Train]":
    """Yield a function that trains a configuration in a folder, with progress on the terminal."""
    from trainer.training.progress import StepProgress
    from trainer.training.run_directory import exclusive_run, is_first_process
    from trainer.training.train import train

    def train_alone(config: "RunConfig", run: Path) -> "Mapping[str, Any]":
        with exclusive_run(run):
            return train(
                config,
                run,
                cache=cache or default_cache(),
                device=device,
                on_progress=on_progress,
                callbacks=[StepProgress(run, on_progress)],
            )

    with show_progress() if is_first_process() else nullcontext(ignore_progress) as on_progress:
        yield train_alone
