from pathlib import Path

import pytest

from tests.trainer.evaluation.test_comparison import VALUES, result
from trainer.data.evaluation_set import EvaluationSet, Query
from trainer.errors import ConfigError, DataError
from trainer.evaluation.comparison import Comparison, compare
from trainer.evaluation.gates import GateRule, check_evaluated, check_gates, read_gates
from trainer.evaluation.result import Evaluation


def compared(**shifts: float) -> Comparison:
    """Compare six queries of three articles in each language; all values are shifted alike."""

    def evaluation(name: str, by: dict[str, float]) -> Evaluation:
        results = tuple(
            result("L-en", language, [value + by.get(language, 0.0) for value in VALUES])
            for language in shifts
        )
        return Evaluation(name, "f", "f", 64, "cpu", "x", None, {"tea": {"en": 3}}, results)

    return compare(evaluation("tuned", shifts), evaluation("base", {}))


def rule(**limits: float) -> GateRule:
    return GateRule.model_validate({"set": "tea", "direction": "L-en", **limits})


@pytest.mark.parametrize(("limit", "passes"), [(0.05, True), (0.049, True), (0.051, False)])
def test_the_macro_mean_must_gain_the_limit(limit: float, passes: bool) -> None:
    (verdict,) = check_gates(compared(de=0.1, fr=0.0), [rule(least_macro_gain=limit - 1e-9)])

    assert verdict.passes == passes
    assert "macro mean 0.4833 -> 0.5333, +0.0500" in verdict.text


def test_a_language_that_loses_more_than_the_limit_fails_by_name() -> None:
    comparison = compared(de=-0.011, fr=-0.009, yo=0.4)

    (verdict,) = check_gates(comparison, [rule(most_language_loss=0.01)])
    assert verdict.verdict == (
        "FAILED: tea, L-en, 3 languages: 2 lose, 1 by more than 0.01 (de -0.0110)"
    )
    (verdict,) = check_gates(comparison, [rule(most_language_loss=0.02)])
    assert verdict.verdict == (
        "passed: tea, L-en, 3 languages: 2 lose, 0 by more than 0.02; worst de -0.0110"
    )


def test_losses_are_tested_one_sided_and_corrected_over_the_languages() -> None:
    # Three articles that all lose have the two-sided p 2 / 8; one-sided it is 1 / 8.
    (alone,) = check_gates(compared(de=-0.1), [rule(significance=0.13)])
    assert alone.text.endswith("1 significantly worse at 0.13 (de -0.1000 (p 0.1250))")
    assert not alone.passes

    (with_others,) = check_gates(compared(de=-0.1, fr=0.1), [rule(significance=0.13)])
    assert with_others.passes  # p = 2 * 1 / 8

    (gains,) = check_gates(compared(de=0.1, fr=0.1), [rule(significance=0.99)])
    assert gains.passes


def test_a_set_that_was_not_evaluated_is_refused() -> None:
    missing = GateRule.model_validate({"set": "coffee", "direction": "L-en", "significance": 0.1})

    with pytest.raises(DataError, match="the gates name coffee, L-en, which was not evaluated"):
        check_gates(compared(de=0.1), [missing])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("gates = []", "gates: List should have at least 1 item"),
        ('[[gates]]\nset = "a"\ndirection = "de"', "gates.0.direction: must be 'en-en'"),
        ('[[gates]]\nset = "a"\ndirection = "L-en"\nmargin = 1', "gates.0.margin: Extra inputs"),
        ("gates", "is not valid TOML"),
    ],
)
def test_a_gates_file_with_a_fault_is_refused_by_field(
    text: str, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=fault) as error:
        read_gates(path)
    assert str(path) in str(error.value)


def test_the_gates_of_the_default_encoder_are_readable() -> None:
    rules = read_gates(Path("trainer/configs/default-gates.toml"))

    assert [(each.set, each.direction) for each in rules] == [
        ("sib200", "L-en"),
        ("xquad", "en-en"),
        ("afriqa", "en-en"),
        ("short-questions", "L-en"),
        ("short-questions", "en-en"),
        ("belebele", "en-en"),
        ("belebele", "L-en"),
    ]


def test_a_gate_without_a_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text('[[gates]]\nset = "tea"\ndirection = "L-en"\n')

    with pytest.raises(
        ConfigError, match=r"gates.0: give least_macro_gain, most_language_loss or significance$"
    ):
        read_gates(path)


def test_a_gate_on_what_is_not_evaluated_names_file_and_field(tmp_path: Path) -> None:
    queries = {language: (Query("q", "?"),) for language in ("en", "de")}
    tea = EvaluationSet("tea", tmp_path, queries, {"en": frozenset("p")}, {"q": {"p": 1}})
    path = tmp_path / "gates.toml"

    check_evaluated(path, [rule(significance=0.1)], [tea], [], ["L-en"])
    unseen = rule(significance=0.1).model_copy(update={"set": "tea, unseen passages"})
    check_evaluated(path, [unseen], [tea], [], ["L-en"])
    for languages, directions in (([], ["en-en"]), (["fr"], ["L-en"])):
        with pytest.raises(ConfigError, match=r"gates.toml: gates.0: tea, L-en is not evaluated"):
            check_evaluated(path, [rule(significance=0.1)], [tea], languages, directions)
