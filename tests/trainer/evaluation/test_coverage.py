from service.retrieval.language_quality import QueryKind
from trainer.evaluation.coverage import Coverage, measure_coverage
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task

KINDS: dict[str, QueryKind] = {"tea": "questions", "rain": "questions", "news": "statements"}


def result(set_name: str, direction: str, language: str, *values: float) -> Result:
    names = [f"q{number}" for number in range(len(values))]
    return Result(
        Task(set_name, direction, language, language, ("en",)),
        {name: f"article of {name}" for name in names},
        {"ndcg@10": dict(zip(names, values, strict=True))},
    )


def coverage(*results: Result) -> list[Coverage]:
    return measure_coverage(
        Evaluation("tiny", "f", "f", 64, "cpu", "torch", None, {}, results, KINDS)
    )


def measured(*results: Result) -> dict[tuple[str, str], tuple[float, int]]:
    return {
        (each.kind, each.language): (each.value, each.num_queries) for each in coverage(*results)
    }


def test_queries_of_a_kind_are_joined_over_sets_and_kinds_are_not() -> None:
    found = measured(
        result("tea", "L-en", "sw", 1.0, 0.5),
        result("rain", "L-en", "sw", 0.0),
        result("news", "L-en", "sw", 0.25),
        result("news", "L-en", "ay", 0.75),
        result("tea", "en-en", "en", 1.0),
    )

    assert found == {
        ("questions", "sw"): (0.5, 3),
        ("questions", "en"): (1.0, 1),
        ("statements", "sw"): (0.25, 1),
        ("statements", "ay"): (0.75, 1),
    }


def test_only_english_passages_count_and_no_query_twice() -> None:
    found = measured(
        result("tea", "L-en", "sw", 0.5),
        result("tea", "L-L", "sw", 1.0),
        result("tea", "en-L", "sw", 1.0),
        result("tea", "mixed", "sw", 1.0),
        result("tea, unseen passages", "L-en", "sw", 1.0),
        result("news", "en-en", "en", 1.0),
    )

    assert found == {("questions", "sw"): (0.5, 1)}


def test_an_interval_holds_the_value_and_is_a_point_where_all_values_are_equal() -> None:
    spread, equal = coverage(
        result("tea", "L-en", "sw", *[0.0, 1.0] * 50), result("tea", "L-en", "ha", *[0.5] * 100)
    )

    assert (equal.interval.low, equal.interval.high) == (0.5, 0.5)
    # The mean of 100 throws of a coin has a standard deviation of 0.05.
    assert 0.38 < spread.interval.low < 0.42
    assert 0.58 < spread.interval.high < 0.62


def test_without_english_passages_there_is_no_coverage() -> None:
    assert coverage(result("tea", "en-L", "sw", 1.0)) == []
