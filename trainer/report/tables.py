"""The tables of a report, for a terminal and in Markdown, and its JSON content."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from trainer.evaluation.comparison import Comparison, comparison_rows
from trainer.evaluation.coverage import measure_coverage
from trainer.evaluation.gates import Verdict
from trainer.evaluation.measures import NAMES
from trainer.evaluation.result import Evaluation
from trainer.markdown import markdown_table
from trainer.report.coverage import coverage_content

FINGERPRINT_CHARACTERS = 16
HIDDEN = {"recall@100"}
POOL = ("complete@10", "max_rank")
MACRO = "macro mean"


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """Return one table per set and direction, with a row per language and the macro mean."""
    return [
        _rich_table(title, headings, rows) for title, headings, rows in evaluation_rows(evaluation)
    ]


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Return the same tables in Markdown, with the conditions of the evaluation."""
    parts = [
        f"### {title}\n\n{markdown_table(headings, rows, aligns_right=True)}"
        for title, headings, rows in evaluation_rows(evaluation)
    ]
    return "\n\n".join([*parts, conditions_line(evaluation)]) + "\n"


def report_markdown(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Return evaluations, comparisons and gates in Markdown: the content of `report.md`."""
    parts = ["# Evaluation"]
    if verdicts:
        parts += ["## Gates", *(f"- {each.verdict}" for each in verdicts)]
    for comparison in comparisons:
        parts.append(f"## {comparison.encoder_name} against {comparison.base_name}")
        parts += [f"- {gate.verdict}" for gate in comparison.gates]
        parts.append(markdown_table(*comparison_rows(comparison), aligns_right=True))
    for evaluation in evaluations:
        parts += [f"## {evaluation.label}", evaluation_markdown(evaluation)]
    return "\n\n".join(parts)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of a comparison for a terminal."""
    title = f"{comparison.encoder_name} against {comparison.base_name}, nDCG@10"
    return _rich_table(title, *comparison_rows(comparison))


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return a title, headings and cells for each set and direction."""
    tables = []
    for set_name, direction in evaluation.groups():
        results = evaluation.group(set_name, direction)
        keys = [key for key in results[0].values if key not in HIDDEN]
        rows = [
            [
                result.task.language,
                str(len(result.articles)),
                *(format_measure(key, result.measures[key]) for key in keys),
            ]
            for result in results
        ]
        if len(results) > 1:
            means = evaluation.macro(set_name, direction)
            count = str(sum(len(result.articles) for result in results))
            rows.append([MACRO, count, *(format_measure(key, means[key]) for key in keys)])
        headings = ["language", "queries", *(NAMES[key] for key in keys)]
        tables.append((f"{set_name}, {direction}", headings, rows))
    return tables


def format_measure(key: str, value: float) -> str:
    """Format a measure with its significant digits."""
    return f"{value:.1f}" if key == "max_rank" else f"{value:.4f}"


def conditions_line(evaluation: Evaluation) -> str:
    """Return the conditions of an evaluation in one line: encoder, device, number of passages."""
    control = f", control {evaluation.control}" if evaluation.control else ""
    passages = ", ".join(
        f"{name} {max(by_language.values())}"
        for name, by_language in evaluation.num_passages.items()
    )
    return (
        f"encoder {evaluation.encoder_name} "
        f"(fingerprint {evaluation.fingerprint[:FINGERPRINT_CHARACTERS]}){control}, "
        f"at most {evaluation.max_tokens} tokens, "
        f"on {evaluation.device} by {evaluation.runtime}; passages: {passages}"
    )


def evaluation_content(evaluation: Evaluation) -> dict[str, Any]:
    """Return the results of an evaluation as JSON content, unrounded.

    Returns:
        `sets` -> set -> direction -> `languages` -> language -> measure, and `macro_mean`;
        `coverage`, an entry for each kind of queries and language.
    """
    sets: dict[str, dict[str, Any]] = {}
    for set_name, direction in evaluation.groups():
        intervals = evaluation.intervals(set_name, direction)
        sets.setdefault(set_name, {})[direction] = {
            "languages": {
                result.task.language: {
                    "num_queries": len(result.articles),
                    **result.measures,
                    "ndcg@10_interval": [
                        intervals[result.task.language].low,
                        intervals[result.task.language].high,
                    ],
                }
                for result in evaluation.group(set_name, direction)
            },
            "macro_mean": evaluation.macro(set_name, direction),
        }
    return {
        "encoder": {
            "name": evaluation.encoder_name,
            "fingerprint": evaluation.fingerprint,
            "passage_fingerprint": evaluation.passage_fingerprint,
            "max_tokens": evaluation.max_tokens,
            "device": evaluation.device,
            "runtime": evaluation.runtime,
            "control": evaluation.control,
        },
        "num_passages": {name: dict(each) for name, each in evaluation.num_passages.items()},
        "sets": sets,
        "coverage": coverage_content(measure_coverage(evaluation)),
    }


def _rich_table(title: str, headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for cells in rows:
        if cells[0] == MACRO:
            table.add_section()
        table.add_row(*cells)
    return table
