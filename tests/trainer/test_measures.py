import math
import sys

import pytest

from trainer.errors import MissingPackageError
from trainer.measures import mean_measures


def run_with_relevant_at(rank: int, length: int = 120) -> dict[str, float]:
    """Rank passages of falling score; `relevant` is at `rank`, from 1."""
    names = [f"other.{number}" for number in range(1, length + 1)]
    names[rank - 1] = "relevant"
    return {name: 1 - position / 1000 for position, name in enumerate(names)}


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (1, [1.0, 1.0, 1.0, 1.0, 1.0]),
        (2, [1 / math.log2(3), 0.0, 1.0, 1.0, 1 / 2]),
        (10, [1 / math.log2(11), 0.0, 1.0, 1.0, 1 / 10]),
        (11, [0.0, 0.0, 0.0, 1.0, 0.0]),
        (100, [0.0, 0.0, 0.0, 1.0, 0.0]),
        (101, [0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_each_measure_of_one_query_is_as_computed_by_hand(rank: int, expected: list[float]) -> None:
    measures = mean_measures({"q": {"relevant": 1}}, {"q": run_with_relevant_at(rank)})

    keys = ["ndcg@10", "recall@1", "recall@10", "recall@100", "mrr@10"]
    assert measures == pytest.approx(dict(zip(keys, expected, strict=True)))


def test_measures_are_means_over_queries() -> None:
    qrels = {"q1": {"relevant": 1}, "q2": {"relevant": 1}}
    run = {"q1": run_with_relevant_at(1), "q2": run_with_relevant_at(4)}

    measures = mean_measures(qrels, run)

    assert measures["mrr@10"] == pytest.approx((1 + 1 / 4) / 2)
    assert measures["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5)) / 2)


def test_a_judged_query_that_the_run_lacks_counts_as_zero() -> None:
    qrels = {"q1": {"relevant": 1}, "q2": {"relevant": 1}}

    measures = mean_measures(qrels, {"q1": run_with_relevant_at(1)})

    assert set(measures.values()) == {0.5}


def test_an_empty_run_measures_zero() -> None:
    assert set(mean_measures({"q": {"relevant": 1}}, {}).values()) == {0.0}


def test_recall_is_a_share_of_a_querys_relevant_passages() -> None:
    qrels = {"q": {"relevant": 1, "other.1": 1, "never found": 1, "nor this": 1}}

    measures = mean_measures(qrels, {"q": run_with_relevant_at(2)})

    assert measures["recall@1"] == pytest.approx(1 / 4)
    assert measures["recall@10"] == pytest.approx(2 / 4)


def test_a_missing_package_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)

    with pytest.raises(MissingPackageError, match=r"pip install 'clear-search\[train\]'"):
        mean_measures({}, {})
