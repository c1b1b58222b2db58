import pytest

from trainer.errors import DataError
from trainer.evaluation.comparison import Comparison, Gate, compare, comparison_rows
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task

VALUES = [0.2, 0.4, 0.5, 0.9, 0.3, 0.6]


def result(direction: str, language: str, values: list[float]) -> Result:
    corpus = ("en",)
    names = [f"q{number}" for number in range(len(values))]
    return Result(
        Task("tea", direction, language, language, corpus),
        {name: f"a{number // 2}" for number, name in enumerate(names)},
        {"ndcg@10": dict(zip(names, values, strict=True))},
    )


def evaluation(name: str, english: float = 0.0, gain: float = 0.0) -> Evaluation:
    """Six English, German and French queries; `english` and `gain` shift all their values."""
    results = (
        result("en-en", "en", [value + english for value in VALUES]),
        result("L-en", "de", [value + gain for value in VALUES]),
        result("L-en", "fr", [value + 3 * gain for value in VALUES]),
    )
    return Evaluation(name, "f", "f", 64, "cpu", "torch-fp32", None, {"tea": {"en": 3}}, results)


def compared(english: float = 0.0, gain: float = 0.0, margin: float = 0.005) -> Comparison:
    return compare(evaluation("tuned", english, gain), evaluation("base"), margin=margin)


def test_differences_are_of_the_means() -> None:
    comparison = compared(gain=0.1)

    german, french = comparison.differences[1:]
    assert (german.task.language, german.num_queries, german.num_articles) == ("de", 6, 3)
    assert german.difference == pytest.approx(0.1)
    assert french.difference == pytest.approx(0.3)
    assert comparison.macros[1].difference == pytest.approx(0.2)
    assert (german.interval.low, german.interval.high) == pytest.approx((0.1, 0.1))


def test_p_values_are_adjusted_over_the_languages_of_a_direction() -> None:
    english, german, french = compared(gain=0.1).differences

    assert german.p == pytest.approx(2 / 8)  # three articles
    assert german.p_holm == french.p_holm == pytest.approx(0.5)
    assert (english.p, english.p_holm) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("english", "passes"), [(0.0, True), (-0.004, True), (-0.006, False), (0.1, True)]
)
def test_the_gate_lets_english_lose_the_margin_and_no_more(english: float, passes: bool) -> None:
    comparison = compared(english=english, gain=0.5)

    assert comparison.passes == passes
    assert ("FAILED" in comparison.gates[0].verdict) != passes


def test_the_verdict_states_whether_non_inferiority_is_shown() -> None:
    assert "non-inferiority shown" in Gate("tuned", "tea", 0.001, -0.004, 0.005).verdict
    assert "non-inferiority not shown" in Gate("tuned", "tea", 0.001, -0.006, 0.005).verdict


def test_evaluations_of_different_queries_are_not_compared() -> None:
    base = evaluation("base")
    shorter = Evaluation(
        "base", "f", "f", 64, "cpu", "torch-fp32", None, {}, (result("en-en", "en", VALUES[:2]),)
    )

    with pytest.raises(DataError, match="different queries in the two evaluations"):
        compare(base, shorter)


def test_the_table_has_a_row_per_language_and_a_macro_mean() -> None:
    headings, rows = comparison_rows(compared(gain=0.1))

    assert [row[2] for row in rows] == ["en", "de", "fr", "macro mean"]
    assert rows[1][3:7] == ["0.4833", "0.5833", "+0.1000", "+0.1000 to +0.1000"]
    assert {len(row) for row in rows} == {len(headings)}


def test_intervals_hold_the_mean_of_each_language() -> None:
    found = evaluation("base").intervals("tea", "L-en")

    assert set(found) == {"de", "fr"}
    assert found["de"].low < sum(VALUES) / 6 < found["de"].high
