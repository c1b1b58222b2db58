"""The report as one HTML page that needs nothing beside it: tables, plots, conditions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from service.retrieval.errors import ArtifactError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.json_lines import read_json_lines
from trainer.errors import DataError
from trainer.evaluation.measures import NAMES
from trainer.report.plots import difference_bars, heat_map, label_of, language_dots, loss_terms

Content = Mapping[str, Any]
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
tr.mean td { font-weight: 600; border-top: 1px solid #999 }
figure { margin: 1rem 0 } figcaption { color: #555; font-size: .9rem }
svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto }
.passed, .failed { padding: .5rem .8rem; border-left: .3rem solid }
.passed { border-color: #009E73; background: #f0faf6 }
.failed { border-color: #D55E00; background: #fdf3ec }
"""


@dataclass(frozen=True, slots=True)
class Training:
    """What belongs on the page beside the figures: a run's log, a blend's curve."""

    log: Sequence[Content] = ()
    curve_svg: str = ""


def read_training(log: Path | None, curve_svg: Path | None) -> Training:
    """Read a training run's `log.jsonl` and a blend's `curve.svg`.

    Raises:
        DataError: a file is missing, or not what it should be.
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
            raise DataError(f"{log} holds no step with a loss: name the log.jsonl of a run")
    return Training(entries, _read_svg(curve_svg) if curve_svg else "")


def read_report(path: Path) -> Content:
    """Read the `report.json` of an evaluation.

    Raises:
        DataError: it is missing or something else.
    """
    try:
        content = read_json_object(path, ArtifactError)
    except ArtifactError as error:
        raise DataError(f"{error}; `clear-trainer evaluate --output` writes one") from None
    if not {"evaluations", "comparisons"} <= content.keys():
        raise DataError(f"{path} is no report of `clear-trainer evaluate --output`")
    return content


def html_page(content: Content, training: Training) -> str:
    """Lay out a report.

    Args:
        content: of `report.json`.
        training: what else to show.
    """
    evaluations, comparisons = content["evaluations"], content["comparisons"]
    parts = [f"<h1>How well {escape(label_of(evaluations[0]))} retrieves</h1>"]
    parts += [_gates(each) for each in comparisons]
    parts.append(_summary(evaluations))
    if training.curve_svg:
        caption = "What a blend of base and tuned weights gains against what English loses."
        parts += ["<h2>Trade-off of the blend</h2>", _figure(training.curve_svg, caption)]
    for set_name, directions in evaluations[0]["sets"].items():
        parts.append(f"<h2>{escape(set_name)}</h2>")
        if len(directions) > 1:
            caption = f"nDCG@10 of {label_of(evaluations[0])} by language and direction."
            parts.append(_figure(heat_map(evaluations[0], set_name), caption))
        for direction in directions:
            parts += _direction(content, set_name, direction)
    if training.log:
        caption = f"The loss and its terms in training, {len(training.log)} logged steps."
        parts += ["<h2>Training</h2>", _figure(loss_terms(training.log), caption)]
    parts += ["<h2>Conditions</h2>", _conditions(evaluations)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>CLEAR Search: evaluation</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _direction(content: Content, set_name: str, direction: str) -> list[str]:
    evaluations = content["evaluations"]
    parts = [f"<h3>{escape(set_name)}, {escape(direction)}</h3>"]
    caption = "Each language's mean; articles, not questions, are resampled for the interval."
    base = content["comparisons"][0]["base"] if content["comparisons"] else label_of(evaluations[0])
    parts.append(_figure(language_dots(evaluations, set_name, direction, base), caption))
    for comparison in content["comparisons"]:
        caption = f"{comparison['encoder']} against {comparison['base']}."
        parts.append(_figure(difference_bars(comparison, set_name, direction), caption))
        parts.append(_differences(comparison, set_name, direction))
    parts += [_measures(each, set_name, direction) for each in evaluations]
    return parts


def _summary(evaluations: Sequence[Content]) -> str:
    """Write the macro means of nDCG@10, a line a set and direction, a column an encoder."""
    rows = [
        [f"{set_name}, {direction}"]
        + [f"{_macro(each, set_name, direction):.4f}" for each in evaluations]
        for set_name, directions in evaluations[0]["sets"].items()
        for direction in directions
    ]
    headings = ["nDCG@10, macro mean", *(label_of(each) for each in evaluations)]
    return _table(headings, rows)


def _macro(evaluation: Content, set_name: str, direction: str) -> float:
    return float(evaluation["sets"][set_name][direction]["macro_mean"]["ndcg@10"])


def _measures(evaluation: Content, set_name: str, direction: str) -> str:
    group = evaluation["sets"][set_name][direction]
    keys = list(group["macro_mean"])
    rows = [
        [language, str(values["num_queries"]), *(f"{values[key]:.4f}" for key in keys)]
        for language, values in group["languages"].items()
    ]
    if len(rows) > 1:
        count = sum(values["num_queries"] for values in group["languages"].values())
        means = [f"{group['macro_mean'][key]:.4f}" for key in keys]
        rows.append(["macro mean", str(count), *means])
    headings = [label_of(evaluation), "queries", *(NAMES[key] for key in keys)]
    return _table(headings, rows)


def _differences(comparison: Content, set_name: str, direction: str) -> str:
    rows = [
        [*_difference(each["task"]["language"], each), f"{each['p']:.4f}", f"{each['p_holm']:.4f}"]
        for each in comparison["languages"]
        if (each["task"]["set_name"], each["task"]["direction"]) == (set_name, direction)
    ]
    if len(rows) > 1:
        rows += [
            [*_difference("macro mean", each), "", ""]
            for each in comparison["macro_means"]
            if (each["set_name"], each["direction"]) == (set_name, direction)
        ]
    headings = ["language", comparison["base"], comparison["encoder"], "difference"]
    return _table([*headings, "95 % interval", "p", "p (Holm)"], rows)


def _difference(name: str, each: Content) -> list[str]:
    return [
        name,
        f"{each['base']:.4f}",
        f"{each['value']:.4f}",
        f"{each['difference']:+.4f}",
        f"{each['interval']['low']:+.4f} to {each['interval']['high']:+.4f}",
    ]


def _gates(comparison: Content) -> str:
    return "\n".join(
        f'<p class="{"passed" if gate["passes"] else "failed"}">{escape(gate["verdict"])}</p>'
        for gate in comparison["english_gates"]
    )


def _conditions(evaluations: Sequence[Content]) -> str:
    rows = [
        [
            label_of(each),
            each["encoder"]["fingerprint"][:16],
            each["encoder"]["passage_fingerprint"][:16],
            str(each["encoder"]["max_tokens"]),
            each["encoder"]["device"],
            each["encoder"]["runtime"],
        ]
        for each in evaluations
    ]
    headings = ["encoder", "fingerprint", "of passages", "tokens", "device", "runtime"]
    passages = json.dumps(evaluations[0]["num_passages"])
    notes = (
        "Tests: signs of whole articles flipped, two-sided, adjusted over the languages of a "
        "direction by Holm. Intervals: 95 %, articles resampled jointly in all languages. "
        "Macro mean: each language counts the same."
    )
    return f"{_table(headings, rows)}<p>{notes}</p><p>Passages: {escape(passages)}</p>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in headings)
    body = "\n".join(
        ('<tr class="mean">' if cells[0] == "macro mean" else "<tr>")
        + "".join(f"<td>{escape(each)}</td>" for each in cells)
        + "</tr>"
        for cells in rows
    )
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _read_svg(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        return text[text.index("<svg") :]
    except (OSError, ValueError):
        raise DataError(f"{path} is no SVG: name the curve.svg of `clear-trainer blend`") from None
