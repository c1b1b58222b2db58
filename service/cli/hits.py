"""Hits for a person at a terminal, or for a program."""

import json
from collections.abc import Sequence

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.retrieval.searcher import Hit


def print_hits(hits: Sequence[Hit], as_json: bool) -> None:
    """Print hits on stdout, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps([hit.as_dict() for hit in hits], ensure_ascii=False))
        return
    table = Table(box=box.SIMPLE_HEAD, show_lines=False, padding=(0, 1, 1, 0))
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    table.add_column("passage", ratio=1)
    for hit in hits:
        passage = Text.assemble(
            (hit.passage.title or hit.passage.passage_id, "bold"), "\n", hit.passage.text
        )
        table.add_row(str(hit.rank), f"{hit.score:.3f}", passage)
    Console().print(table if hits else "no hits")
