"""What each share of a blend is worth, which one is chosen, and the curve of them all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.data.languages import ENGLISH
from trainer.evaluation.measures import macro

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
