"""The coverage report: each language's quality as a dot, in a table, and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.retrieval.language_quality import THRESHOLDS, LanguageQuality, QueryKind
from trainer.data.languages import ENGLISH, in_words
from trainer.evaluation.coverage import Coverage
from trainer.markdown import markdown_table
from trainer.report.plots import (
    COLORS,
    MARKERS,
    base_of,
    error_bars,
    label_of,
    require_matplotlib,
    svg_of,
)

INCHES_PER_ROW, INCHES_PER_COLUMN, ROWS_PER_COLUMN = 0.15, 3.4, 60
DIGITS = 4
CSV_HEADINGS = ("kind", "language", "queries", "encoder", "ndcg@10", "low", "high", "grade")
Content = Mapping[str, Any]


def coverage_content(coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
    """Return a coverage as JSON content, an entry for each kind and language."""
    return [
        {
            "kind": each.kind,
            "language": each.language,
            "num_queries": each.num_queries,
            "ndcg@10": each.value,
            "ndcg@10_interval": [each.interval.low, each.interval.high],
            "grade": LanguageQuality.model_validate({each.kind: each.value, "n": 1}).grade,
        }
        for each in coverage
    ]


def language_record(evaluation: Content) -> dict[str, dict[str, float | int]]:
    """Return the content of `languages.json`: nDCG@10 by kind, and the number of queries."""
    record: dict[str, dict[str, float | int]] = {}
    for entry in evaluation["coverage"]:
        language = record.setdefault(entry["language"], {"n": 0})
        language[entry["kind"]] = round(entry["ndcg@10"], DIGITS)
        language["n"] += entry["num_queries"]
    return record


def coverage_sections(content: Content) -> Iterator[Content]:
    """Yield the plot and the table of each kind that is measured in a language besides English.

    Args:
        content: of `report.json`.
    """
    evaluations, base = content["evaluations"], base_of(content)
    for kind in _kinds(content):
        headings, rows = coverage_rows(evaluations, kind, base)
        yield {
            "kind": kind,
            "svg": coverage_dots(evaluations, kind, base),
            "caption": f"Each language's {kind}, sorted by {base}, best first. Each column has its "
            "own scale; dotted: from fair, from good.",
            "headings": headings,
            "rows": rows,
        }


def coverage_markdown(content: Content) -> str:
    """Return the tables of `coverage_sections` in Markdown."""
    parts = []
    for kind in _kinds(content):
        rows = coverage_rows(content["evaluations"], kind, base_of(content))
        parts += [f"## Coverage: {kind}", markdown_table(*rows, aligns_right=True)]
    return "\n\n".join(parts)


def coverage_rows(
    evaluations: Sequence[Content], kind: QueryKind, base: str
) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of a kind's table, the languages sorted by the base's values.

    Args:
        evaluations: of the encoders, as in `report.json`.
        kind: of the queries.
        base: the label of the encoder whose values sort the languages, best first.
    """
    tables = _tables(evaluations, kind)
    headings = ["language", "queries"]
    for label, _ in tables:
        headings += [label, "95 %"]
    rows = []
    for language in _sorted(tables, base):
        entries = [table[language] for _, table in tables]
        cells = [language, str(entries[0]["num_queries"])]
        for entry in entries:
            low, high = entry["ndcg@10_interval"]
            cells += [f"{entry['ndcg@10']:.4f}", f"{low:.3f} to {high:.3f}"]
        rows.append([*cells, entries[0]["grade"]])
    return [*headings, f"grade of {tables[0][0]}"], rows


def coverage_csv(evaluations: Sequence[Content]) -> str:
    """Return the coverage of all encoders as CSV, a line for each encoder, kind and language."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(CSV_HEADINGS)
    for evaluation in evaluations:
        for entry in evaluation["coverage"]:
            low, high = entry["ndcg@10_interval"]
            numbers = [f"{value:.4f}" for value in (entry["ndcg@10"], low, high)]
            place = (entry["kind"], entry["language"], entry["num_queries"])
            writer.writerow([*place, label_of(evaluation), *numbers, entry["grade"]])
    return content.getvalue()


def coverage_dots(evaluations: Sequence[Content], kind: QueryKind, base: str) -> str:
    """Plot each language as a dot per encoder with its 95 % interval, as SVG; see `coverage_rows`.

    The languages stand in up to three columns, each with a scale of its own; dotted lines are the
    thresholds of the grades.
    """
    tables = _tables(evaluations, kind)
    order = _sorted(tables, base)
    num_columns = min(3, -(-len(order) // ROWS_PER_COLUMN))
    num_rows = -(-len(order) // num_columns)
    figure, columns = _make_columns(num_columns, num_rows)
    for column, axes in enumerate(columns):
        shown = order[column * num_rows : (column + 1) * num_rows]
        for number, (label, table) in enumerate(tables):
            shift = (number - (len(tables) - 1) / 2) * 0.3
            values = [table[language]["ndcg@10"] for language in shown]
            axes.errorbar(
                values,
                [row + shift for row in range(len(shown))],
                xerr=error_bars(values, [table[each]["ndcg@10_interval"] for each in shown]),
                fmt=MARKERS[number % len(MARKERS)],
                color=COLORS[number % len(COLORS)],
                markersize=3,
                elinewidth=0.7,
                label=label if column == 0 else None,
            )
        axes.set_yticks(range(len(shown)), list(map(in_words, shown)), fontsize=7)
        axes.set_ylim(num_rows - 0.3, -0.7)
        low, high = axes.get_xlim()
        for threshold in THRESHOLDS[kind]:
            if low < threshold < high:
                axes.axvline(threshold, color="0.5", linewidth=0.8, linestyle=":")
    figure.supxlabel(f"nDCG@10 of {kind} over English passages, 95 % interval", fontsize=9)
    figure.legend(loc="outside upper left", ncols=len(tables), frameon=False, fontsize=8)
    return svg_of(figure, f"coverage {kind}")


def _make_columns(num_columns: int, num_rows: int) -> tuple[Any, Sequence[Any]]:
    """Create a figure with axes side by side."""
    require_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    size = (INCHES_PER_COLUMN * max(num_columns, 2), 1.0 + INCHES_PER_ROW * max(num_rows, 8))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    columns = figure.subplots(1, num_columns, squeeze=False)[0]
    for axes in columns:
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color="0.92")
    return figure, columns


def _kinds(content: Content) -> list[QueryKind]:
    """Return the kinds of queries that are measured in a language besides English."""
    entries = content["evaluations"][0].get("coverage", ())  # older reports have none
    return sorted({entry["kind"] for entry in entries if entry["language"] != ENGLISH})


def _tables(
    evaluations: Sequence[Content], kind: QueryKind
) -> list[tuple[str, dict[str, Content]]]:
    """Return each encoder's label and its entries of a kind by language."""
    return [
        (
            label_of(each),
            {entry["language"]: entry for entry in each["coverage"] if entry["kind"] == kind},
        )
        for each in evaluations
    ]


def _sorted(tables: Sequence[tuple[str, dict[str, Content]]], base: str) -> list[str]:
    """Sort languages by the base's value, best first, then by code."""
    table = next(table for label, table in reversed(tables) if label == base)
    return sorted(table, key=lambda language: (-table[language]["ndcg@10"], language))
