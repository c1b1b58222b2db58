"""Plot of latency by offered load: one color per percentile, one line style per result.

Run: python -m tests.bench.plot tests/bench/results/open_loop-*.json --to latency.png
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tests.bench.options import say

STYLES = ("-", "--", ":", "-.")
COLORS = {"p50": "#1b7837", "p95": "#e08214", "p99": "#b2182b"}


def plot(results: Sequence[Path], to: Path) -> None:
    """Plot results of `open_loop`: latency of accepted requests above, goodput below."""
    try:
        import matplotlib
    except ImportError:
        say("no plot: pip install -e '.[bench]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (latency, goodput) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7, 6.5), height_ratios=[2, 1], layout="constrained"
    )
    title = ""
    for path, style in zip(results, STYLES * len(results), strict=False):
        content = json.loads(path.read_text())
        name = content["options"]["label"] or content["commit"]
        rates = sorted(content["rates"], key=lambda each: float(each["offered"]))
        offered = [each["offered"] for each in rates]
        for percentile, color in COLORS.items():
            values = [(each["latency_ms"] or {}).get(percentile) for each in rates]
            latency.plot(
                offered, values, style, color=color, marker=".", label=f"{percentile} {name}"
            )
        goodput.plot(offered, [each["goodput"] for each in rates], style, marker=".", label=name)
        title = f"{content['cpu']}, {content['cores']} cores, {content['date'][:10]}"
    goodput.axline((0, 0), slope=1, color="#bbbbbb", linewidth=0.8)
    goodput.set(xlabel="offered load, requests a second", ylabel="answered a second")
    latency.set(yscale="log", ylabel="latency of answered requests, ms", title=title)
    for axis_formatter in (latency.yaxis.set_major_formatter, latency.yaxis.set_minor_formatter):
        axis_formatter("{x:g}")
    for axes in (latency, goodput):
        axes.grid(alpha=0.3, which="both")
    latency.legend(fontsize="small")
    figure.savefig(to, dpi=120)
    say(f"plot written to {to}")


def main() -> None:
    """Plot the files named on the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("results", type=Path, nargs="+")
    made.add_argument("--to", type=Path, default=Path("latency.png"))
    options = made.parse_args()
    plot(options.results, options.to)


if __name__ == "__main__":
    main()
