"""The results of an ablation: a table and a plot, written again after each run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from service.retrieval.storage.artifact import read_json_object, replace_file
from trainer.ablation.grid import Cell
from trainer.data.languages import ENGLISH
from trainer.markdown import markdown_table
from trainer.training.run_directory import RECORD, RecordError

RUNS, TABLE, PLOT = "runs", "table.md", "plot.png"
Records = Sequence[tuple[Cell, dict[str, Any]]]


def finished_cells(directory: Path, cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Yield the finished cells, each with its run record."""
    for cell in cells:
        path = directory / RUNS / cell.name / RECORD
        record = read_json_object(path, RecordError) if path.is_file() else {}
        if record.get("is_finished") and "scores" in record:
            yield cell, record


def write_results(directory: Path, cells: Sequence[Cell]) -> None:
    """Write the table and, if matplotlib is installed, the plot."""
    records = list(finished_cells(directory, cells))
    if not records:
        return
    replace_file(directory / TABLE, results_table(records).encode())  # machines may share a grid
    try:
        draw_plot(directory / PLOT, records)
    except ImportError:
        return  # the table has the same values


def set_means(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the columns of the table: for each set, the macro mean of L -> en, and en -> en."""
    columns = {}
    for name, by_language in scores.items():
        others = [value for language, value in by_language.items() if language != ENGLISH]
        if others:
            columns[f"{name} L→en"] = fmean(others)
        if ENGLISH in by_language:
            columns[f"{name} en→en"] = by_language[ENGLISH]
    return columns


def scores_by_variant(records: Records) -> dict[str, list[dict[str, float]]]:
    """Return the columns of each variant, one entry per seed; the base encoder comes first."""
    collected = {"base": [set_means(records[0][1]["base_scores"])]}
    for cell, record in records:
        collected.setdefault(cell.variant, []).append(set_means(record["scores"]))
    return collected


def results_table(records: Records) -> str:
    """Return the Markdown table of nDCG@10 by variant: mean over seeds ± standard deviation."""
    collected = scores_by_variant(records)
    names = list(collected["base"][0])
    rows = []
    for variant, entries in collected.items():
        cells = []
        for name in names:
            values = [entry[name] for entry in entries]
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.4f}{spread}")
        count = "–" if variant == "base" else str(len(entries))
        rows.append([variant, count, *cells])
    return markdown_table(["variant", "seeds", *names], rows) + "\n"


def draw_plot(path: Path, records: Records) -> None:
    """Plot each variant's change from the base: one panel per column, one dot per seed.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    collected = scores_by_variant(records)
    base = collected.pop("base")[0]
    variants = list(collected)
    figure = Figure(
        figsize=(3.2 * len(base) + 1.5, 0.4 * len(variants) + 1.5), layout="constrained"
    )
    axes = figure.subplots(1, len(base), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, base, strict=True):
        for place, variant in enumerate(variants):
            deltas = [entry[name] - base[name] for entry in collected[variant]]
            axis.plot(deltas, [place] * len(deltas), "o", color="tab:blue", alpha=0.5)
            axis.plot(fmean(deltas), place, "|", color="black", markersize=14)
        axis.axvline(0, color="gray", linewidth=0.8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("change of nDCG@10")
    axes[0].set_yticks(range(len(variants)), variants)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)
