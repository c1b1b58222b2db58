"""The curve of a blend: nDCG@10 by share, the gates, and the choice of the share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.data.languages import ENGLISH
from trainer.evaluation.measures import macro

# nDCG@10 by set, then by query language; the passages are English.
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Gates:
    """Maximum losses of a blend against the base, in nDCG@10; None is no limit."""

    english_margin: float = 0.005
    language_margin: float | None = None

    def broken(self, base: Scores, scores: Scores) -> list[str]:
        """Return the gates that a blend breaks, one line each.

        In each set, English -> English may lose `english_margin`, and each other language
        `language_margin`. With a language margin, no set's macro mean may fall.
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
    """A share and its scores."""

    share: float
    scores: Scores

    @property
    def mean(self) -> float:
        """Return the mean of the sets' macro means, which decides the choice."""
        means = [macro(by_language) for by_language in self.scores.values()]
        return sum(means) / len(means)


@dataclass(frozen=True)
class Curve:
    """The points of a blend, the base first, and the chosen one."""

    base_name: str
    tuned_name: str
    points: Sequence[Point]
    gates: Gates

    @property
    def base(self) -> Point:
        """Return the point of the base."""
        return self.points[0]

    @property
    def chosen(self) -> Point:
        """Return the best point that passes the gates; the base always passes."""
        kept = [each for each in self.points if not self.broken(each)]
        return max(kept, key=lambda point: (point.mean, -point.share))

    def broken(self, point: Point) -> list[str]:
        """Return the gates that a point breaks, one line each."""
        return self.gates.broken(self.base.scores, point.scores)


def curve_content(curve: Curve) -> dict[str, object]:
    """Return the curve as JSON content."""
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
    """Serialize the curve to JSON, unrounded."""
    return (json.dumps(curve_content(curve), indent=1, ensure_ascii=False) + "\n").encode()
