"""What each share of a blend is worth, which one is chosen, and the curve of them all."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from trainer.errors import MissingPackageError

ENGLISH = "en"
# nDCG@10 by set, then by query language; the passages are English.
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Gates:
    """What a blend must not lose against the base, in nDCG@10; None asks nothing."""

    english_margin: float = 0.005
    language_margin: float | None = None

    def broken(self, base: Scores, scores: Scores) -> list[str]:
        """List the gates that a blend breaks, as a person reads them.

        Each set's English -> English is held to `english_margin`; each other language, and each
        set's macro mean, to `language_margin`.
        """
        broken = []
        for name, by_language in scores.items():
            changes = {key: value - base[name][key] for key, value in by_language.items()}
            for language, change in changes.items():
                margin = self.english_margin if language == ENGLISH else self.language_margin
                if margin is not None and change < -margin:
                    broken.append(f"{name} {language} -> en {change:+.4f}")
            if self.language_margin is not None and macro(by_language) < macro(base[name]):
                broken.append(f"{name} macro mean {macro(by_language) - macro(base[name]):+.4f}")
        return broken


@dataclass(frozen=True)
class Point:
    """One share and what it reached."""

    share: float
    scores: Scores

    @property
    def mean(self) -> float:
        """Average the macro means of the sets: what the choice is made by."""
        means = [macro(by_language) for by_language in self.scores.values()]
        return sum(means) / len(means)


@dataclass(frozen=True)
class Curve:
    """All points, the base's first, and the one that was chosen."""

    base_name: str
    tuned_name: str
    points: Sequence[Point]
    gates: Gates

    @property
    def base(self) -> Point:
        """Tell what the base reached."""
        return self.points[0]

    @property
    def chosen(self) -> Point:
        """Choose the best of the points that keep the gates; the base itself does."""
        kept = [each for each in self.points if not self.broken(each)]
        return max(kept, key=lambda point: (point.mean, -point.share))

    def broken(self, point: Point) -> list[str]:
        """List the gates that a point breaks."""
        return self.gates.broken(self.base.scores, point.scores)


def macro(by_language: Mapping[str, float]) -> float:
    """Average over the languages but English, each counting the same.

    >>> macro({"en": 0.9, "sw": 0.5, "yo": 0.3})
    0.4
    """
    others = [value for key, value in by_language.items() if key != ENGLISH]
    return sum(others) / len(others) if others else by_language[ENGLISH]


def curve_content(curve: Curve) -> dict[str, object]:
    """Lay the whole curve out for JSON."""
    return {
        "base": curve.base_name,
        "tuned": curve.tuned_name,
        "measure": "ndcg@10",
        "english_margin": curve.gates.english_margin,
        "language_margin": curve.gates.language_margin,
        "chosen_share": curve.chosen.share,
        "points": [
            {
                "share": point.share,
                "mean": point.mean,
                "macro": {name: macro(values) for name, values in point.scores.items()},
                "scores": {name: dict(values) for name, values in point.scores.items()},
                "broken_gates": curve.broken(point),
            }
            for point in curve.points
        ],
    }


def curve_json(curve: Curve) -> bytes:
    """Serialise the whole curve, each measure unrounded."""
    return (json.dumps(curve_content(curve), indent=1, ensure_ascii=False) + "\n").encode()


def curve_svg(curve: Curve) -> bytes:
    """Plot the trade-off: what other languages gain against what English loses, share by share.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    pyplot = require_matplotlib()
    figure, axes = pyplot.subplots(figsize=(8, 5.5), layout="constrained")
    axes.axvspan(-1, -curve.gates.english_margin, color="0.92", zorder=0)
    axes.axvline(-curve.gates.english_margin, color="0.5", linestyle=":")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    chosen, least = curve.chosen, -curve.gates.english_margin
    for name in curve.base.scores:
        if ENGLISH not in curve.base.scores[name]:
            continue
        xs, ys = (
            [change(point.scores[name]) - change(curve.base.scores[name]) for point in curve.points]
            for change in (lambda values: values[ENGLISH], macro)
        )
        (line,) = axes.plot(xs, ys, marker="o", markersize=4, label=name)
        at = list(curve.points).index(chosen)
        axes.plot(
            xs[at], ys[at], marker="o", markersize=12, fillstyle="none", color=line.get_color()
        )
        for x, y, point in zip(xs, ys, curve.points, strict=True):
            axes.annotate(
                f"{point.share:g}", (x, y), textcoords="offset points", xytext=(5, 4), fontsize=7
            )
        least = min(least, *xs)
    axes.set_xlim(left=least - 0.001)
    axes.set_xlabel("English -> English, nDCG@10 against the base (grey: below the gate)")
    axes.set_ylabel("other languages -> English, macro nDCG@10 against the base")
    axes.set_title(
        f"{curve.tuned_name} blended into {curve.base_name}: share {chosen.share:g} chosen"
    )
    axes.legend(title="set")
    content = io.BytesIO()
    # Text stays text, and equal curves give equal bytes.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "clear"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return content.getvalue()


def require_matplotlib() -> ModuleType:
    """Import matplotlib's pyplot for files; called early, it stops a run before hours are lost.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingPackageError(
            "the plot needs the package matplotlib: pip install 'clear-search[train]'"
        ) from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot
