import math
import random
import sys

import pytest

from trainer.data.trec import Qrels, Run
from trainer.errors import MissingPackageError
from trainer.evaluation.measures import mean, pool_measures, query_measures


def mean_measures(qrels: Qrels, run: Run) -> dict[str, float]:
    return {key: mean(values) for key, values in query_measures(qrels, run).items()}


def run_with_relevant_at(rank: int, length: int = 120) -> dict[str, float]:
    """Return passages with falling scores; `relevant` is at `rank`, from 1."""
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


def by_formula(judgments: dict[str, int], scores: dict[str, float]) -> dict[str, float]:
    """Compute the measures of one query from their published formulas, without `ir-measures`."""
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    gains = [judgments.get(name, 0) for name in ranked]
    discounts = [1 / math.log2(rank + 1) for rank in range(1, 11)]
    gained = sum(gain * each for gain, each in zip(gains, discounts, strict=False))
    best = sum(
        gain * each
        for gain, each in zip(sorted(judgments.values(), reverse=True), discounts, strict=False)
    )
    first = next((rank for rank, gain in enumerate(gains[:10], 1) if gain), math.inf)
    recalls = {
        f"recall@{k}": sum(gain > 0 for gain in gains[:k]) / len(judgments) for k in (1, 10, 100)
    }
    return {"ndcg@10": gained / best, **recalls, "mrr@10": 1 / first}


def test_measures_of_random_runs_equal_their_formulas() -> None:
    generator = random.Random(0)
    passages = [f"d{number}" for number in range(300)]
    qrels = {
        f"q{number}": {name: generator.choice([1, 2]) for name in generator.sample(passages, 9)}
        for number in range(40)
    }
    run = {
        query_id: {name: generator.random() for name in generator.sample(passages, 150)}
        for query_id in list(qrels)[5:]
    }

    found = query_measures(qrels, run)

    assert all(0 < mean(values) < 1 for values in found.values())
    for query_id, judgments in qrels.items():
        measures = {key: values[query_id] for key, values in found.items()}
        assert measures == pytest.approx(by_formula(judgments, run.get(query_id, {})), abs=1e-12)


def test_a_pool_is_complete_where_the_last_relevant_passage_is_among_ten() -> None:
    ranked = {name: 1 - place / 100 for place, name in enumerate("abcdefghijkl")}
    qrels = {"ten": {"a": 1, "j": 1}, "eleven": {"a": 1, "k": 1}, "never": {"a": 1, "z": 1}}

    measures = pool_measures(qrels, dict.fromkeys([*qrels], ranked))

    assert measures["complete@10"] == {"ten": 1.0, "eleven": 0.0, "never": 0.0}
    assert measures["max_rank"] == {"ten": 10.0, "eleven": 11.0, "never": 13.0}


def test_a_missing_package_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)

    with pytest.raises(MissingPackageError, match=r"pip install 'clear-search\[train\]'"):
        query_measures({}, {})
