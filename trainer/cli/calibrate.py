"""The command `calibrate`, which fits the relevance of an encoder's hits."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.progress import show_progress
from trainer.cli.options import (
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
)

app = typer.Typer()

SetsArgument = Annotated[
    list[str],
    typer.Argument(metavar="SET...", help="Folders of evaluation sets with English passages."),
]
OutputOption = Annotated[
    Path, typer.Option(help="The calibration to write, for `publish --calibration`.")
]
ReportOption = Annotated[
    Path | None, typer.Option(help="Folder for calibration.md and reliability.svg.")
]


@app.command("calibrate")
def calibrate_command(
    sets: SetsArgument,
    output: OutputOption,
    encoder: EncoderOption = BUNDLED,
    report: ReportOption = None,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "auto",
    precision: PrecisionOption = "auto",
    cache: CacheOption = None,
    languages: LanguagesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the probability that a hit answers its query; measure it on languages left out."""
    from trainer.data.languages import known_language
    from trainer.evaluation.sets import open_sets

    with ExitStack() as stack:
        on_progress = stack.enter_context(show_progress())
        on_progress("read", 0, None)
        # Read the inputs before torch is loaded, so that a wrong folder fails at once.
        opened = open_sets(sets, stack)
        _check_output(output)
        chosen = [known_language(code) for code in languages or ()]

        from service.retrieval.relevance.calibration import write_calibration
        from trainer.calibration.calibrate import calibrate
        from trainer.calibration.report import calibration_table, write_report
        from trainer.errors import OutputError
        from trainer.report.run import EncoderOptions

        on_progress("load", 0, None)
        folder = cache or default_cache()
        options = EncoderOptions(device, max_tokens, cpu_engine, precision, folder)
        outcome = calibrate(options.load(encoder), opened, chosen, folder, on_progress)
    try:
        write_calibration(output, outcome.calibration)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror}): name another") from None
    if report:
        write_report(report, outcome)
    measured = outcome.measured
    typer.echo(json.dumps(measured) if as_json else calibration_table(measured))


def _check_output(output: Path) -> None:
    """Refuse an output that is no calibration, or in no folder, before anything is computed."""
    from service.retrieval.relevance.calibration import CalibrationError, read_calibration
    from trainer.errors import OutputError

    if not output.parent.is_dir():
        raise OutputError(f"{output} cannot be written: {output.parent} is no folder: create it")
    if not output.exists():
        return
    try:
        read_calibration(output)
    except CalibrationError:
        raise OutputError(
            f"{output} has other content, no calibration: name another file"
        ) from None
