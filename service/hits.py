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
        typer.echo(json.dumps([_as_dict(hit) for hit in hits], ensure_ascii=False))
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


def _as_dict(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {
        "passage_id": passage.passage_id,
        "score": hit.score,
        "rank": hit.rank,
        "title": passage.title,
        "text": passage.text,
        "metadata": dict(passage.metadata),
    }
