"""Generations for a person at a terminal, or for a program."""

import json
from collections.abc import Sequence

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from service.retrieval.generation.history import Listed


def print_generations(generations: Sequence[Listed], as_json: bool) -> None:
    """Print generations on stdout, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps([_facts(listed) for listed in generations]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("generation", "", "published (UTC)", "passages", "MiB", "encoder", "factory"):
        table.add_column(heading, justify="right" if heading in ("passages", "MiB") else "left")
    for listed in generations:
        facts = _facts(listed)
        table.add_row(
            listed.name,
            str(facts["place"]) + (" (damaged)" if listed.damage else ""),
            f"{listed.built:%Y-%m-%d %H:%M:%S}",
            str(facts["passages"] if facts["passages"] is not None else "?"),
            f"{listed.size_bytes / 2**20:.1f}",
            str(facts["encoder"] or "?"),
            str(facts["factory"] or "?"),
        )
    Console().print(table)
    for listed in generations:
        if listed.damage:
            Console().print(listed.damage, soft_wrap=True, markup=False, highlight=False)


def _facts(listed: Listed) -> dict[str, object]:
    encoder = listed.manifest.get("encoder", {})
    return {
        "generation": listed.name,
        "place": listed.place,
        "published": listed.built.isoformat(timespec="seconds"),
        "passages": listed.manifest.get("count"),
        "bytes": listed.size_bytes,
        "encoder": encoder.get("name"),
        "runtime": encoder.get("runtime"),
        "factory": listed.manifest.get("factory"),
        "damage": listed.damage,
    }
