"""The report of a calibration: a table by corpus and language, and a reliability plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.retrieval.relevance.measures import reliability
from service.retrieval.storage import artifact
from trainer.calibration.calibrate import CORPUS_OUT, LANGUAGE_OUT, Outcome
from trainer.calibration.measured import POOLED
from trainer.errors import OutputError
from trainer.markdown import markdown_table
from trainer.report.plots import COLORS, MARKERS, make_figure, svg_of

HEADINGS = ("queries", "AUROC", "ECE", "recall")
PLOT_ROWS = 12


def calibration_table(measured: Mapping[str, Any]) -> str:
    """Return the measures as Markdown; the last columns are for the corpus left out."""
    other = measured.get(CORPUS_OUT)
    headings = ["corpus", "language", *HEADINGS]
    if other:
        headings += [f"{name}, corpus out" for name in HEADINGS[1:]]
    rows = []
    for corpus, language, values in _lines(measured[LANGUAGE_OUT]):
        cells = [corpus, language, str(values["queries"]), *_figures(values, language)]
        if other:
            place = other[corpus] if corpus == POOLED else other[corpus][language]
            cells += _figures(place, language)
        rows.append(cells)
    return markdown_table(headings, rows, aligns_right=True)


def _lines(measured: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    lines: list[tuple[str, str, Mapping[str, Any]]] = [(POOLED, POOLED, measured[POOLED])]
    for corpus in (name for name in measured if name != POOLED):
        lines += [(corpus, language, values) for language, values in measured[corpus].items()]
    return lines


def _figures(values: Mapping[str, Any], language: str) -> list[str]:
    """Return the cells of some measures; an older calibration has no interval."""
    area = "-" if values["auroc"] is None else f"{values['auroc']:.3f}"
    error = f"{values['ece']:.3f}"
    if language == POOLED and (interval := values.get("ece_interval")):
        error += f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return [area, error, f"{values['recall']:.2f}"]


def reliability_plot(outcome: Outcome) -> str:
    """Plot the share of answers by relevance, for each corpus, languages left out."""
    figure, axes = make_figure(PLOT_ROWS)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="ideal")
    corpora = np.array([each.corpus for each in outcome.judged])
    labels = np.array([each.is_answered for each in outcome.judged])
    weights = np.array([each.measured_weight for each in outcome.judged])
    relevances = outcome.held_out[LANGUAGE_OUT]
    groups: Sequence[tuple[str, Any]] = [
        *((corpus, corpora == corpus) for corpus in sorted(set(corpora))),
        (POOLED, np.ones(len(corpora), bool)),
    ]
    for number, (name, rows) in enumerate(groups):
        means, shares, _ = reliability(relevances[rows], labels[rows], weights[rows])
        axes.plot(
            means,
            shares,
            marker=MARKERS[number % len(MARKERS)],
            color=COLORS[number % len(COLORS)],
            linewidth=2 if name == POOLED else 1,
            label=name,
        )
    axes.set_xlabel("relevance of the best hit")
    axes.set_ylabel("share of best hits that answer")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    return svg_of(figure, "reliability")


def write_report(directory: Path, outcome: Outcome) -> None:
    """Write `calibration.md` and `reliability.svg`.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        table = calibration_table(outcome.measured) + "\n"
        artifact.replace_file(directory / "calibration.md", table.encode())
        artifact.replace_file(directory / "reliability.svg", reliability_plot(outcome).encode())
    except OSError as error:
        raise OutputError(
            f"the report cannot be written to {directory} ({error.strerror}): name another folder"
        ) from None
