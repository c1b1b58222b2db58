"""The plot of a blend's curve: gain in other languages against loss in English."""

from trainer.blend.curve import Curve
from trainer.data.languages import ENGLISH
from trainer.evaluation.measures import macro
from trainer.report.plots import COLORS, make_figure, svg_of


def trade_off(curve: Curve) -> str:
    """Plot each share's change of macro nDCG@10 against its change of English nDCG@10, as SVG.

    Each set that has English queries is a line; the gray area breaks the English gate; a circle
    marks the chosen share.

    Args:
        curve: of a blend; its first point is the base.
    """
    figure, axes = make_figure(num_rows=12)
    gate, chosen = -curve.gates.english_margin, list(curve.points).index(curve.chosen)
    axes.axvspan(-1, gate, color="0.92", zorder=0)
    axes.axvline(gate, color="0.5", linestyle=":")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    least = gate
    for number, (name, base) in enumerate(curve.base.scores.items()):
        if ENGLISH not in base:
            continue
        scores = [point.scores[name] for point in curve.points]
        xs = [each[ENGLISH] - base[ENGLISH] for each in scores]
        ys = [macro(each) - macro(base) for each in scores]
        color = COLORS[number % len(COLORS)]
        axes.plot(xs, ys, color=color, marker="o", markersize=4, label=name)
        axes.plot(xs[chosen], ys[chosen], "o", markersize=12, fillstyle="none", color=color)
        for x, y, point in zip(xs, ys, curve.points, strict=True):
            place = {"textcoords": "offset points", "xytext": (5, 4), "fontsize": 7}
            axes.annotate(f"{point.share:g}", (x, y), **place)
        least = min(least, *xs)
    axes.set_xlim(left=least - 0.001)
    axes.set_xlabel("English -> English, nDCG@10 against the base (gray: below the gate)")
    axes.set_ylabel("other languages -> English, macro nDCG@10 against the base")
    axes.set_title(f"{curve.tuned_name}: share {curve.chosen.share:g} chosen")
    axes.legend(title="set", frameon=False)
    return svg_of(figure, "trade-off")
