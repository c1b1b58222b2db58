"""The report as one self-contained HTML page: tables, plots, conditions.

The page's text and layout are in `page.html.jinja`; this module computes what it shows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.retrieval.errors import ArtifactError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.json_lines import read_json_lines
from trainer.errors import DataError
from trainer.report.coverage import coverage_sections
from trainer.report.page_tables import (
    conditions,
    differences,
    making,
    measures,
    summary,
    verdict,
    worst_tables,
)
from trainer.report.plots import (
    difference_bars,
    heat_map,
    label_of,
    language_dots,
    language_order,
    loss_terms,
)

TEMPLATE = "page.html.jinja"
Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Training:
    """What the page shows of training: the log of a run, the curve of a blend."""

    log: Sequence[Content] = ()
    curve_svg: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot of the page."""

    svg: str
    caption: str


def read_training(log: Path | None, curve_svg: Path | None) -> Training:
    """Read a training run's `log.jsonl` and a blend's `curve.svg`.

    Raises:
        DataError: a file is missing, or has other content.
    """
    entries: list[Content] = []
    if log:
        for origin, parse in read_json_lines(log, DataError):
            entry = parse()
            if not isinstance(entry, dict):
                raise DataError(f"{origin} is not a JSON object: name the log.jsonl of a run")
            if {"step", "loss"} <= entry.keys():  # dev scores have lines of their own
                entries.append(entry)
        if not entries:
            raise DataError(f"{log} has no step with a loss: name the log.jsonl of a run")
    return Training(entries, _read_svg(curve_svg) if curve_svg else "")


def read_report(path: Path) -> Content:
    """Read the `report.json` of an evaluation.

    Raises:
        DataError: the file is missing, or has other content.
    """
    try:
        content = read_json_object(path, ArtifactError)
    except ArtifactError as error:
        raise DataError(f"{error}; `clear-trainer evaluate --output` writes one") from None
    if not {"evaluations", "comparisons"} <= content.keys():
        raise DataError(
            f"{path} is not a report of `clear-trainer evaluate --output`: name its folder"
        )
    return content


def html_page(content: Content, training: Training) -> str:
    """Render a report as HTML.

    Args:
        content: of `report.json`.
        training: the log and the blend's curve, if any.
    """
    evaluations = content["evaluations"]
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template(TEMPLATE).render(
        encoder=label_of(evaluations[0]),
        verdict=verdict(content),
        gates=[
            *(gate for each in content["comparisons"] for gate in each["english_gates"]),
            *content.get("gates", []),  # a report of an older version has none
        ],
        summary=summary(evaluations),
        trade_off=_trade_off(training),
        coverage=list(coverage_sections(content)),
        sets=list(_sets(content)),
        losses=_losses(training),
        worst=list(worst_tables(content)),
        conditions=conditions(evaluations),
        making=making(content),
    )


def _sets(content: Content) -> Iterator[Content]:
    """Compute the section of each evaluation set, with those of its directions."""
    evaluation = content["evaluations"][0]
    for name, directions in evaluation["sets"].items():
        caption = f"nDCG@10 of {label_of(evaluation)} by language and direction."
        yield {
            "name": name,
            "heat_map": Figure(heat_map(evaluation, name, language_order(content, name)), caption)
            if len(directions) > 1
            else None,
            "directions": [_direction(content, name, each) for each in directions],
        }


def _direction(content: Content, set_name: str, direction: str) -> Content:
    evaluations, comparisons = content["evaluations"], content["comparisons"]
    order = language_order(content, set_name)
    return {
        "name": direction,
        "dots": Figure(
            language_dots(evaluations, set_name, direction, order),
            "Each language's mean; articles, not questions, are resampled for the interval.",
        ),
        "comparisons": [
            {
                "bars": Figure(
                    difference_bars(each, set_name, direction, order),
                    f"{each['encoder']} against {each['base']}.",
                ),
                "differences": differences(each, set_name, direction, order),
            }
            for each in comparisons
        ],
        "measures": [measures(each, set_name, direction, order) for each in evaluations],
    }


def _trade_off(training: Training) -> Figure | None:
    caption = "What a blend of base and tuned weights gains against what English loses."
    return Figure(training.curve_svg, caption) if training.curve_svg else None


def _losses(training: Training) -> Figure | None:
    caption = f"The loss and its terms in training, {len(training.log)} logged steps."
    return Figure(loss_terms(training.log), caption) if training.log else None


def _read_svg(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        return text[text.index("<svg") :]
    except (OSError, ValueError):
        raise DataError(
            f"{path} is not an SVG: name the curve.svg of `clear-trainer blend`"
        ) from None
