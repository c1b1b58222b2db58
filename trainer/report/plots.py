"""Plots of a report as SVG: values with intervals, differences, heat map, loss terms.

They read the content of `report.json`, so that the page can be rendered without a new evaluation.
"""

import io
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from trainer.data.languages import ENGLISH, in_words
from trainer.errors import MissingPackageError

# Okabe and Ito's colors, distinguishable with color blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv"
INCHES_PER_ROW = 0.34
WIDTH_INCHES = 7.2
Content = Mapping[str, Any]


def language_dots(
    evaluations: Sequence[Content], set_name: str, direction: str, order: Sequence[str]
) -> str:
    """Plot each language's nDCG@10 with its 95 % interval, in one color per encoder.

    Args:
        evaluations: of the encoders, as in `report.json`.
        set_name: the evaluation set.
        direction: one of its directions.
        order: of the languages, the first at the top.
    """
    groups = [each["sets"][set_name][direction]["languages"] for each in evaluations]
    labels = [label_of(each) for each in evaluations]
    order = [language for language in reversed(order) if language in groups[0]]
    figure, axes = make_figure(len(order))
    for number, (label, languages) in enumerate(zip(labels, groups, strict=True)):
        shift = (number - (len(groups) - 1) / 2) * 0.22
        values = [languages[language]["ndcg@10"] for language in order]
        bounds = [languages[language]["ndcg@10_interval"] for language in order]
        axes.errorbar(
            values,
            [row - shift for row in range(len(order))],
            xerr=error_bars(values, bounds),
            fmt=MARKERS[number % len(MARKERS)],
            color=COLORS[number % len(COLORS)],
            markersize=5,
            capsize=2,
            elinewidth=1,
            label=label,
        )
    axes.set_yticks(range(len(order)), [in_words(language) for language in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("nDCG@10, 95 % interval over articles")
    axes.grid(axis="x", color="0.9")
    if len(groups) > 1:
        figure.legend(loc="outside upper left", ncols=len(groups), frameon=False)
    return svg_of(figure, f"dots {set_name} {direction}")


def difference_bars(
    comparison: Content, set_name: str, direction: str, order: Sequence[str]
) -> str:
    """Plot each language's difference from the base with its 95 % interval, then the macro mean.

    A bar whose interval holds 0 is hollow.
    """
    found = {
        each["task"]["language"]: each
        for each in comparison["languages"]
        if (each["task"]["set_name"], each["task"]["direction"]) == (set_name, direction)
    }
    rows = [(in_words(language), found[language]) for language in order if language in found]
    if len(rows) > 1:
        rows += [
            ("macro mean", each)
            for each in comparison["macro_means"]
            if (each["set_name"], each["direction"]) == (set_name, direction)
        ]
    figure, axes = make_figure(len(rows))
    values = [each["difference"] for _, each in rows]
    bounds = [(each["interval"]["low"], each["interval"]["high"]) for _, each in rows]
    places = range(len(rows), 0, -1)
    colors = [COLORS[0] if value >= 0 else COLORS[1] for value in values]
    axes.barh(
        places,
        values,
        xerr=error_bars(values, bounds),
        color=[
            "none" if low <= 0 <= high else color
            for color, (low, high) in zip(colors, bounds, strict=True)
        ],
        edgecolor=colors,
        error_kw={"elinewidth": 1, "capsize": 2},
        height=0.6,
    )
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(places, [name for name, _ in rows])
    axes.set_xlabel(f"nDCG@10 against {comparison['base']}, 95 % interval over articles")
    axes.grid(axis="x", color="0.9")
    return svg_of(figure, f"differences {comparison['encoder']} {set_name} {direction}")


def heat_map(evaluation: Content, set_name: str, languages: Sequence[str]) -> str:
    """Plot nDCG@10 by language, in the given order, and direction."""
    directions = list(evaluation["sets"][set_name])
    values = [
        [
            evaluation["sets"][set_name][direction]["languages"]
            .get(language, {})
            .get("ndcg@10", float("nan"))
            for direction in directions
        ]
        for language in languages
    ]
    figure, axes = make_figure(len(languages))
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, cells in enumerate(values):
        for column, value in enumerate(cells):
            if value == value:  # not NaN: the language has this direction
                color = "white" if value < 0.55 else "black"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(directions)), directions)
    axes.set_yticks(range(len(languages)), [in_words(language) for language in languages])
    return svg_of(figure, f"heat {label_of(evaluation)} {set_name}")


def loss_terms(log: Sequence[Content]) -> str:
    """Plot the training loss and its terms by step.

    Args:
        log: entries of a run's `log.jsonl`: `step`, `loss`, `terms` by name.
    """
    figure, axes = make_figure(8)
    steps = [entry["step"] for entry in log]
    axes.plot(steps, [entry["loss"] for entry in log], color="0.2", linewidth=1.6, label="loss")
    names = list(dict.fromkeys(name for entry in log for name in entry.get("terms", {})))
    for number, name in enumerate(names):
        points = [(entry["step"], entry["terms"][name]) for entry in log if name in entry["terms"]]
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=COLORS[number % len(COLORS)],
            linewidth=1.2,
            label=name,
        )
    axes.set_xlabel("step")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    return svg_of(figure, "loss terms")


def label_of(evaluation: Content) -> str:
    """Return the name of an evaluation's encoder, with the control if there is one."""
    encoder = evaluation["encoder"]
    return f"{encoder['name']} ({encoder['control']})" if encoder["control"] else encoder["name"]


def base_of(content: Content) -> str:
    """Return the label of the encoder whose values sort languages: the base, if there is one."""
    comparisons = content["comparisons"]
    return str(comparisons[0]["base"] if comparisons else label_of(content["evaluations"][0]))


def language_order(content: Content, set_name: str) -> list[str]:
    """Return the languages of a set, the base's best first: one order for all plots and tables.

    A language counts by the mean of its directions; English alone stands before the others.
    """
    base = next(each for each in content["evaluations"] if label_of(each) == base_of(content))
    values: dict[str, list[float]] = {}
    for group in base["sets"][set_name].values():
        for language, found in group["languages"].items():
            values.setdefault(language, []).append(float(found["ndcg@10"]))
    return sorted(
        values,
        key=lambda each: (each != ENGLISH, -sum(values[each]) / len(values[each]), each),
    )


def require_matplotlib() -> ModuleType:
    """Import matplotlib; called before encoding, so that a missing package fails early.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingPackageError(
            "the report needs the package matplotlib: pip install 'clear-search[train]'"
        ) from None
    return matplotlib


def make_figure(num_rows: int) -> tuple[Any, Any]:
    """Create a figure with axes, tall enough for some rows; without pyplot and its global state."""
    require_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    height = 0.9 + INCHES_PER_ROW * max(num_rows, 3)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def error_bars(values: Sequence[float], bounds: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the lengths of error bars from bounds, below and above the values."""
    return [
        [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)],
    ]


def svg_of(figure: Any, name: str) -> str:
    """Return a figure as an SVG element; equal figures give equal text.

    Args:
        figure: of `make_figure`.
        name: makes the ids inside the element unique on a page.
    """
    matplotlib = require_matplotlib()
    content = io.StringIO()
    # Text is not converted to paths; the salt separates the ids of two figures on a page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    return text[text.index("<svg") :]
