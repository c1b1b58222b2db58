"""Comparison of an encoder with a base: differences, significance, and the English gate."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainer.errors import DataError
from trainer.evaluation.measures import MAIN
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.significance import Interval, Sample, bootstrap, holm, permutation_p
from trainer.evaluation.tasks import Task

ENGLISH_MARGIN = 0.005
GATE_DIRECTION = "en-en"


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference in one language and direction; `p_holm` is corrected over the languages."""

    task: Task
    num_queries: int
    num_articles: int
    base: float
    value: float
    interval: Interval
    p: float
    p_holm: float

    @property
    def difference(self) -> float:
        """Return the encoder's value minus the base's."""
        return self.value - self.base


@dataclass(frozen=True, slots=True)
class MacroDifference:
    """The difference of the macro means over the languages of a set in one direction."""

    set_name: str
    direction: str
    base: float
    value: float
    interval: Interval

    @property
    def difference(self) -> float:
        """Return the encoder's value minus the base's."""
        return self.value - self.base


@dataclass(frozen=True, slots=True)
class Gate:
    """The English gate: English -> English may lose at most a margin against the base."""

    encoder_name: str
    set_name: str
    difference: float
    low_one_sided: float
    margin: float

    @property
    def passes(self) -> bool:
        """Return whether the measured loss is within the margin."""
        return self.difference >= -self.margin

    @property
    def is_shown(self) -> bool:
        """Return whether the one-sided 95 % bound is within the margin (non-inferiority)."""
        return self.low_one_sided >= -self.margin

    @property
    def verdict(self) -> str:
        """Return the result of the gate in one line."""
        return (
            f"English gate on {self.set_name}: {'passed' if self.passes else 'FAILED'} by "
            f"{self.encoder_name}: {MAIN} {self.difference:+.4f} (margin -{self.margin:g}; "
            f"one-sided 95 % bound {self.low_one_sided:+.4f}: "
            f"non-inferiority {'' if self.is_shown else 'not '}shown)"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between an encoder and a base."""

    encoder_name: str
    base_name: str
    differences: tuple[Difference, ...]
    macros: tuple[MacroDifference, ...]
    gates: tuple[Gate, ...]

    @property
    def passes(self) -> bool:
        """Return whether every English gate passes."""
        return all(gate.passes for gate in self.gates)


def compare(
    evaluation: Evaluation, base: Evaluation, *, margin: float = ENGLISH_MARGIN, measure: str = MAIN
) -> Comparison:
    """Compare an encoder with a base, paired by query.

    Args:
        evaluation: of the encoder.
        base: evaluation of the base encoder on the same sets.
        margin: maximum loss of English -> English.
        measure: the measure to compare.

    Raises:
        DataError: the two evaluations have different queries.
    """
    bases = {(each.task.set_name, each.task.name): each for each in base.results}
    differences: list[Difference] = []
    macros, gates = [], []
    for set_name, direction in evaluation.groups():
        results = evaluation.group(set_name, direction)
        pairs = [(each, _partner(each, bases, measure)) for each in results]
        samples = [_difference(each, partner, measure) for each, partner in pairs]
        intervals, macro = bootstrap(samples)
        p_values = [permutation_p(sample) for sample in samples]
        found = [
            Difference(
                each.task,
                len(each.articles),
                len(set(each.articles.values())),
                partner.measures[measure],
                each.measures[measure],
                interval,
                p,
                p_holm,
            )
            for (each, partner), interval, p, p_holm in zip(
                pairs, intervals, p_values, holm(p_values), strict=True
            )
        ]
        differences += found
        values = evaluation.macro(set_name, direction), base.macro(set_name, direction)
        macros.append(
            MacroDifference(set_name, direction, values[1][measure], values[0][measure], macro)
        )
        if direction == GATE_DIRECTION and measure == MAIN:
            difference = macros[-1].difference
            gates.append(Gate(evaluation.label, set_name, difference, macro.low_one_sided, margin))
    return Comparison(evaluation.label, base.label, tuple(differences), tuple(macros), tuple(gates))


def comparison_content(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON content."""
    return {
        "encoder": comparison.encoder_name,
        "base": comparison.base_name,
        "measure": MAIN,
        "languages": [
            {**asdict(each), "difference": each.difference} for each in comparison.differences
        ],
        "macro_means": [
            {**asdict(each), "difference": each.difference} for each in comparison.macros
        ],
        "english_gates": [
            {
                **asdict(each),
                "passes": each.passes,
                "is_shown": each.is_shown,
                "verdict": each.verdict,
            }
            for each in comparison.gates
        ],
    }


def comparison_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of a table, one row per language and one per macro mean."""
    headings = ["set", "direction", "language", "base", "encoder", "difference", "95 %", "p (Holm)"]
    rows = []
    for macro in comparison.macros:
        group = [
            each
            for each in comparison.differences
            if (each.task.set_name, each.task.direction) == (macro.set_name, macro.direction)
        ]
        for each in group:
            rows.append([*_cells(macro, each.task.language, each), f"{each.p_holm:.4f}"])
        if len(group) > 1:
            rows.append([*_cells(macro, "macro mean", macro), ""])
    return headings, rows


def _cells(group: MacroDifference, language: str, each: Difference | MacroDifference) -> list[str]:
    return [
        group.set_name,
        group.direction,
        language,
        f"{each.base:.4f}",
        f"{each.value:.4f}",
        f"{each.difference:+.4f}",
        f"{each.interval.low:+.4f} to {each.interval.high:+.4f}",
    ]


def _partner(each: Result, bases: Mapping[tuple[str, str], Result], measure: str) -> Result:
    partner = bases.get((each.task.set_name, each.task.name))
    if partner is None or partner.values[measure].keys() != each.values[measure].keys():
        raise DataError(
            f"{each.task.name} has different queries in the two evaluations: "
            "evaluate both encoders in one run"
        )
    return partner


def _difference(each: Result, base: Result, measure: str) -> Sample:
    values = {
        query_id: value - base.values[measure][query_id]
        for query_id, value in each.values[measure].items()
    }
    return Sample(values, each.articles)
