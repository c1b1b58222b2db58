"""The command bench: what this machine does with these settings, in about 20 seconds."""

import json
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.table import Table

from service.cli import console
from service.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    load_settings,
)
from service.retrieval.terminal import print_table

if TYPE_CHECKING:
    from service.cli.doctor.speed import Speed

app = typer.Typer()


@app.command()
def bench(
    encoder: EncoderOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure start, memory and speed here, and print the settings that would be faster.

    Measure on an idle machine, without HTTP and index: a service reaches most of these speeds.
    """
    with console.one_line_errors():
        from service.cli.doctor.speed import advice, measure_all
        from service.retrieval.hardware import Contention

        settings = load_settings(encoder=encoder, cache=cache, device=device)
        contention = Contention()
        speeds = measure_all(settings)
        warning = contention.warning()
        lines = [warning] if warning else advice(speeds)
        if as_json:
            typer.echo(json.dumps({"speeds": [each.as_dict() for each in speeds], "advice": lines}))
            return
        _print(speeds)
        for line in lines:
            console.stderr_console().print(line, soft_wrap=True, markup=False, highlight=False)


def _print(speeds: "list[Speed]") -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("runtime")
    for column in ("load s", "memory MiB", "question ms", "questions/s", "passages/minute"):
        table.add_column(column, justify="right")
    for each in speeds:
        table.add_row(
            each.runtime,
            f"{each.load_seconds:.1f}",
            f"{each.memory_mib:,.0f}" if each.memory_mib else "",
            f"{each.question_ms:.1f}",
            f"{each.questions_per_second:,.0f}",
            f"{each.passages_per_minute:,.0f}" if each.passages_per_minute > 0 else "",
        )
    print_table(table)
