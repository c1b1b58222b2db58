"""Advice on an index, for a person at a terminal, or for a program."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from service.retrieval.index.plan import Plan


def print_plans(plans: Sequence[Plan], as_json: bool) -> None:
    """Print plans on stdout, as a table or as JSON; the advised one is marked."""
    if as_json:
        typer.echo(json.dumps([asdict(plan) for plan in plans]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "backend", "--factory"):
        table.add_column(column)
    for column in ("GiB", "recall@10", "build minutes"):
        table.add_column(column, justify="right")
    table.add_column("why")
    for plan in plans:
        table.add_row(
            "[green]→[/green]" if plan.is_advised else "",
            plan.backend,
            plan.factory,
            f"{plan.gibibytes:.2f}",
            "not measured" if plan.recall_at_10 is None else f"{plan.recall_at_10:.2f}",
            _minutes(plan.build_minutes),
            plan.why,
        )
    Console().print(table)


def _minutes(build_minutes: float | None) -> str:
    if build_minutes is None:
        return "not measured"
    return f"{build_minutes:.0f}" if build_minutes >= 1 else "< 1"
