"""Gates of a release: limits on the losses against a base, by set and direction.

A gates file (TOML) has a table `[[gates]]` per set and direction:

    [[gates]]
    set = "sib200"
    direction = "L-en"
    least_macro_gain = 0.025     # of the macro mean over languages; negative: the largest loss
    most_language_loss = 0.01    # of each language
    significance = 0.05          # no language is worse by a paired one-sided test (Holm)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import ConfigError, DataError
from trainer.evaluation.comparison import Comparison, Difference
from trainer.evaluation.significance import holm
from trainer.evaluation.tasks import UNSEEN, list_tasks
from trainer.toml import Section, parse_section, read_toml


class GateRule(Section):
    """The limits of one set in one direction; nDCG@10."""

    set: str
    direction: Literal["en-en", "L-en", "L-L", "en-L", "mixed"]
    least_macro_gain: float | None = Field(None, ge=-1, le=1)
    most_language_loss: float | None = Field(None, ge=0, le=1)
    significance: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        limits = (self.least_macro_gain, self.most_language_loss, self.significance)
        if limits == (None, None, None):
            raise ValueError("give least_macro_gain, most_language_loss or significance")
        return self


class _GatesFile(Section):
    gates: list[GateRule] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one limit is kept, and the measured values in a line."""

    passes: bool
    text: str

    @property
    def verdict(self) -> str:
        """Return the result in one line."""
        return f"{'passed' if self.passes else 'FAILED'}: {self.text}"


def read_gates(path: Path) -> list[GateRule]:
    """Read a gates file.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown or not valid.
    """
    return parse_section(_GatesFile, read_toml(path), path).gates


def check_evaluated(
    path: Path,
    rules: Sequence[GateRule],
    sets: Sequence[EvaluationSet],
    languages: Sequence[str],
    directions: Sequence[str],
) -> None:
    """Refuse gates on a set or direction that is not evaluated, before an encoder is loaded.

    Raises:
        ConfigError: naming the gates file, its field, and what is evaluated.
    """
    tasks = [task for each in sets for task in list_tasks(each, languages, directions)]
    known = {(task.set_name, task.direction): None for task in tasks}
    for number, rule in enumerate(rules):
        if (rule.set.removesuffix(f", {UNSEEN}"), rule.direction) not in known:
            evaluated = ", ".join(f"{name} {direction}" for name, direction in known) or "nothing"
            raise ConfigError(
                f"{path}: gates.{number}: {rule.set}, {rule.direction} is not evaluated, only "
                f"{evaluated}: name the set and direction, or remove the gate"
            )


def check_gates(comparison: Comparison, rules: Sequence[GateRule]) -> list[Verdict]:
    """Return the verdict of each limit.

    Raises:
        DataError: a rule's set was not evaluated in its direction.
    """
    verdicts: list[Verdict] = []
    for rule in rules:
        macros = [
            each
            for each in comparison.macros
            if (each.set_name, each.direction) == (rule.set, rule.direction)
        ]
        if not macros:
            raise DataError(f"the gates name {rule.set}, {rule.direction}, which was not evaluated")
        languages = [
            each
            for each in comparison.differences
            if (each.task.set_name, each.task.direction) == (rule.set, rule.direction)
        ]
        where = f"{rule.set}, {rule.direction}, {len(languages)} languages"
        if rule.least_macro_gain is not None:
            gain, interval = macros[0].difference, macros[0].interval
            verdicts.append(
                Verdict(
                    gain >= rule.least_macro_gain,
                    f"{where}: macro mean {macros[0].base:.4f} -> {macros[0].value:.4f}, "
                    f"{gain:+.4f} ({interval.low:+.4f} to {interval.high:+.4f}; "
                    f"at least {rule.least_macro_gain:+g})",
                )
            )
        if rule.most_language_loss is not None:
            verdicts.append(_check_losses(where, languages, rule.most_language_loss))
        if rule.significance is not None:
            verdicts.append(_check_significance(where, languages, rule.significance))
    return verdicts


def _check_losses(where: str, languages: Sequence[Difference], limit: float) -> Verdict:
    losing = sorted(
        (each.difference, each.task.language) for each in languages if each.difference < 0
    )
    beyond = [f"{language} {value:+.4f}" for value, language in losing if value < -limit]
    worst = f"; worst {losing[0][1]} {losing[0][0]:+.4f}" if losing else ""
    return Verdict(
        not beyond,
        f"{where}: {len(losing)} lose, {len(beyond)} by more than {limit:g}"
        + (f" ({', '.join(beyond)})" if beyond else worst),
    )


def _check_significance(where: str, languages: Sequence[Difference], level: float) -> Verdict:
    """Test each language for a loss, one-sided, corrected over all languages (Holm 1979)."""
    one_sided = [each.p / 2 if each.difference < 0 else 1 - each.p / 2 for each in languages]
    worse = [
        f"{each.task.language} {each.difference:+.4f} (p {p:.4f})"
        for each, p in zip(languages, holm(one_sided), strict=True)
        if p < level
    ]
    return Verdict(
        not worse,
        f"{where}: {len(worse)} significantly worse at {level:g}"
        + (f" ({', '.join(worse)})" if worse else ""),
    )
