"""Results of the commands on stdout: as a table for people, or as JSON for programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.retrieval.defaults import ANSWER_THRESHOLD, PERHAPS_FROM
from service.retrieval.terminal import open_console, print_table

if TYPE_CHECKING:  # their modules import torch
    from service.cli.doctor.examine import Finding
    from service.retrieval.generation.history import GenerationInfo
    from service.retrieval.hits import Hit
    from service.retrieval.index.plan import Plan

NOT_ANSWERED = "probably not answered here; nearest passages:"
PERHAPS_ANSWERED = "perhaps answered here:"


def print_hits(hits: "Sequence[Hit]", has_relevance: bool, as_json: bool) -> None:
    """Print the hits of one query, and whether it is answered."""
    best = (hits[0].relevance if hits else None) or 0.0
    answered = has_relevance and best >= ANSWER_THRESHOLD
    if as_json:
        is_utf8 = sys.stdout.encoding.lower() == "utf-8"
        found = {
            "answered": answered if has_relevance else None,
            "hits": [hit.as_dict(with_evidence=True) for hit in hits],
        }
        typer.echo(json.dumps(found, ensure_ascii=not is_utf8))
        return
    table = Table(box=box.SIMPLE_HEAD, show_lines=False, padding=(0, 1, 1, 0))
    table.add_column("#", justify="right")
    if has_relevance:
        table.add_column("relevance", justify="right")
    table.add_column("score", justify="right")
    table.add_column("passage", ratio=1)
    for hit in hits:
        passage = Text.assemble(
            *((hit.passage.title or hit.passage.passage_id, "bold"), "\n", _with_evidence(hit)),
            *("\n", (hit.passage.passage_id, "dim")),
            *((f"  matched: {', '.join(hit.matched)}", "bold") if hit.matched else "",),
            *((f"  {hit.more_chunks} more of this document", "dim") if hit.more_chunks else "",),
        )
        relevance = [] if hit.relevance is None else [f"{hit.relevance:.2f}"]
        table.add_row(str(hit.rank), *relevance, f"{hit.score:.3f}", passage)
    if has_relevance and hits and not answered:
        Console().print(NOT_ANSWERED if best < PERHAPS_FROM else PERHAPS_ANSWERED)
    Console().print(table if hits else "no hits")


def _with_evidence(hit: "Hit") -> Text:
    """Return a hit's text, without the empty lines at its end, with its evidence in bold."""
    text = Text(hit.passage.text.rstrip())
    if hit.evidence:
        text.stylize("bold", hit.evidence.start, hit.evidence.end)
    return text


def print_generations(generations: "Sequence[GenerationInfo]", as_json: bool) -> None:
    """Print the generations of an index, then what is wrong with the damaged ones."""
    if as_json:
        typer.echo(json.dumps([_generation_facts(info) for info in generations]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("generation", "", "published (UTC)", "passages", "MiB", "encoder", "factory"):
        table.add_column(heading, justify="right" if heading in ("passages", "MiB") else "left")
    # Other columns shrink in a narrow terminal; `rollback --to` needs the name.
    table.columns[0].min_width = max(len(info.name) for info in generations)
    for info in generations:
        facts = _generation_facts(info)
        table.add_row(
            info.name,
            info.place + (" (damaged)" if info.damage else ""),
            f"{info.built:%Y-%m-%d %H:%M:%S}",
            str(facts["passages"] if facts["passages"] is not None else "?"),
            f"{info.size_bytes / 2**20:.1f}",
            str(facts["encoder"] or "?"),
            str(facts["factory"] or "?"),
        )
    print_table(table)
    for info in generations:
        if info.damage:
            open_console().print(info.damage, soft_wrap=True, markup=False, highlight=False)


def print_plans(plans: "Sequence[Plan]", as_json: bool) -> None:
    """Print index plans; the recommended one is marked."""
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
            "not measured" if plan.recall_at_10 is None else f"{plan.recall_at_10:.3f}",
            _minutes(plan.build_minutes),
            plan.why,
        )
    print_table(table)
    open_console().print(_recall_note(plans), soft_wrap=True, markup=False, highlight=False)


def print_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print what `doctor` found."""
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "what", "found", "to fix"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[red]✗[/red]" if finding.is_wrong else "[green]✓[/green]"
        table.add_row(mark, finding.subject, Text(finding.found), Text(finding.fix))
    print_table(table)


def _generation_facts(info: "GenerationInfo") -> dict[str, object]:
    manifest = info.manifest
    return {
        "generation": info.name,
        "place": info.place,
        "published": info.built.isoformat(timespec="seconds"),
        "passages": manifest and manifest.count,
        "bytes": info.size_bytes,
        "encoder": manifest and manifest.encoder.name,
        "runtime": manifest and manifest.encoder.runtime,
        "factory": manifest and manifest.factory,
        "damage": info.damage,
    }


def _recall_note(plans: "Sequence[Plan]") -> str:
    size = next(plan.recall_size for plan in plans if plan.recall_size)
    settings = sorted({plan.recall_setting for plan in plans if plan.recall_setting})
    with_settings = f", with {' and '.join(settings)}" if settings else ""
    return f"recall@10: measured at {size:,} vectors of 384 dimensions{with_settings}"


def _minutes(build_minutes: float | None) -> str:
    if build_minutes is None:
        return "not measured"
    return f"{build_minutes:.0f}" if build_minutes >= 1 else "< 1"
