"""Draws the Grafana dashboard with matplotlib: its layout, its expressions, Prometheus' values.

Colors and fonts are not Grafana's. What Grafana would show empty is empty here, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.support.dashboard import load_dashboard, resolve
from tests.support.prometheus_server import Prometheus

INCHES_PER_CELL = (0.75, 0.42)
UNITS = {"s": (1, "s"), "percentunit": (100, "%"), "bytes": (1e-9, "GB"), "reqps": (1, "/s")}


@dataclass(frozen=True)
class Window:
    """The time that the picture shows; the interval of rates is that of `$__rate_interval`."""

    prometheus: Prometheus
    start: float
    end: float
    interval: str = "15s"

    def lines(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression."""
        resolved = resolve(expression, self.interval)
        return self.prometheus.query_range(resolved, self.start, self.end, 2)

    def last(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression at the end."""
        return self.prometheus.query(resolve(expression, self.interval))

    def points(self, series: dict[str, Any], factor: float) -> tuple[list[float], list[float]]:
        """Return seconds since the start, and scaled values."""
        times = [float(moment) - self.start for moment, _ in series["values"]]
        return times, [float(value) * factor for _, value in series["values"]]


def draw(window: Window, to: Path, title: str) -> None:
    """Draw all panels in the dashboard's layout and write the picture."""
    dashboard = load_dashboard()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = INCHES_PER_CELL
    figure = plt.figure(figsize=(24 * width, rows * height + 0.6), layout="constrained")
    grid = figure.add_gridspec(rows, 24)
    swaps = list(_swaps(window, dashboard["annotations"]["list"]))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]]
        axes = figure.add_subplot(cells)
        axes.set_title(panel["title"], fontsize=9, loc="left", fontweight="bold")
        DRAW[panel["type"]](axes, panel, window)
        if panel["type"] == "timeseries":
            for moment in swaps:
                axes.axvline(moment, color="tab:blue", linestyle=":", linewidth=1)
    figure.suptitle(title, fontsize=11)
    figure.savefig(to, dpi=75)


def _swaps(window: Window, annotations: list[dict[str, Any]]) -> Iterator[float]:
    for annotation in annotations:
        for series in window.lines(annotation["expr"]):
            yield float(series["values"][0][0]) - window.start


def _unit(panel: dict[str, Any]) -> tuple[float, str]:
    return UNITS.get(panel["fieldConfig"]["defaults"].get("unit", ""), (1, ""))


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    legend = str(target["legendFormat"])
    for label, value in labels.items():
        legend = legend.replace("{{" + label + "}}", value)
    return legend.partition("{{")[0].strip()


def _draw_row(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    axes.set_axis_off()


def _draw_stat(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    factor, unit = _unit(panel)
    axes.set_axis_off()
    parts = []
    color = "black"
    for target in panel["targets"]:
        found = window.last(target["expr"])
        value = f"{float(found[0]['value'][1]) * factor:.3g}" if found else "no data"
        parts.append(f"{value} {target['legendFormat'] or unit}".strip())
        if found and target["refId"] == "A":
            color = _threshold(panel, float(found[0]["value"][1]))
    axes.text(0.5, 0.4, "\n".join(parts), ha="center", va="center", fontsize=14, color=color)


def _threshold(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return str(reached[-1]) if reached else "black"


def _draw_series(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    factor, unit = _unit(panel)
    defaults = panel["fieldConfig"]["defaults"]
    for target in panel["targets"]:
        for series in window.lines(target["expr"]):
            times, values = window.points(series, factor)
            axes.plot(times, values, linewidth=1.1, label=_legend(target, series["metric"]))
    if "thresholdsStyle" in defaults["custom"]:
        for step in defaults["thresholds"]["steps"][1:]:
            axes.axhline(step["value"] * factor, color=step["color"], linestyle="--", linewidth=1)
    axes.set_xlim(0, window.end - window.start)
    axes.set_ylim(bottom=defaults.get("min"))
    axes.set_ylabel(unit, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=6, ncols=3, frameon=False, loc="upper left")


def _draw_heatmap(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    found = sorted(
        window.lines(panel["targets"][0]["expr"]),
        key=lambda series: float(series["metric"]["le"].replace("+Inf", "inf")),
    )
    counts = [window.points(series, 1)[1] for series in found]
    below = [[0.0] * len(counts[0]), *counts[:-1]]
    bands = [
        [max(upper - lower, 0) or math.nan for upper, lower in zip(*pair, strict=True)]
        for pair in zip(counts, below, strict=True)
    ]
    axes.pcolormesh(window.points(found[0], 1)[0], range(len(bands)), bands, cmap="Blues")
    axes.set_yticks(range(0, len(found), 4), [s["metric"]["le"] for s in found[::4]], fontsize=6)
    axes.tick_params(axis="x", labelsize=7)


def _draw_timeline(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    colors = {0.0: "green", 1.0: "orange", 2.0: "red"}
    names = []
    for target in panel["targets"]:
        for row, series in enumerate(window.lines(target["expr"])):
            times, values = window.points(series, 1)
            bars = [(moment, 2.0) for moment in times]
            axes.broken_barh(bars, (row - 0.4, 0.8), color=[colors[value] for value in values])
            names.append(_legend(target, series["metric"]))
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlim(0, window.end - window.start)
    axes.tick_params(axis="x", labelsize=7)


def _draw_table(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    axes.set_axis_off()
    hidden = {"__name__", "job", "namespace"}
    for number, sample in enumerate(window.last(panel["targets"][0]["expr"])):
        lines = [f"{name}: {value}" for name, value in sample["metric"].items()
                 if name not in hidden]  # fmt: skip
        axes.text(number * 0.5, 0.9, "\n".join(lines), va="top", fontsize=7)


DRAW = {
    "row": _draw_row,
    "stat": _draw_stat,
    "timeseries": _draw_series,
    "heatmap": _draw_heatmap,
    "state-timeline": _draw_timeline,
    "table": _draw_table,
}
