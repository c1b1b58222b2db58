"""Retrieval measures of a run, query by query, as `ir-measures` defines them.

`complete@10` and `max_rank`, for a pool of two languages, are computed here.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType

from trainer.data.languages import ENGLISH
from trainer.data.trec import Qrels, Run
from trainer.errors import MissingPackageError

MAIN = "ndcg@10"
NAMES = {
    "ndcg@10": "nDCG@10",
    "recall@1": "recall@1",
    "recall@10": "recall@10",
    "recall@100": "recall@100",
    "mrr@10": "MRR@10",
    "complete@10": "Complete@10",
    "max_rank": "Max@R",
}


def query_measures(qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Compute the measures of each judged query; a query that the run lacks counts as zero.

    Returns:
        `ndcg@10`, `recall@1`, `recall@10`, `recall@100` and `mrr@10`, each as query id -> value,
        in the order of the qrels.

    Raises:
        MissingPackageError: `ir-measures` is not installed.

    Source: trec_eval's ndcg_cut and recall; MS MARCO's reciprocal rank, zero past rank 10.

    >>> qrels, run = {"q": {"relevant": 1}}, {"q": {"other": 0.9, "relevant": 0.8}}
    >>> query_measures(qrels, run)["mrr@10"]
    {'q': 0.5}
    """
    ir_measures = require_ir_measures()
    measures = {
        ir_measures.nDCG @ 10: "ndcg@10",
        ir_measures.R @ 1: "recall@1",
        ir_measures.R @ 10: "recall@10",
        ir_measures.R @ 100: "recall@100",
        ir_measures.RR @ 10: "mrr@10",
    }
    values = {key: dict.fromkeys(qrels, 0.0) for key in measures.values()}
    for metric in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[metric.measure]][metric.query_id] = float(metric.value)
    return values


def pool_measures(qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Compute how deep in the ranking all relevant passages of a query are found.

    Args:
        qrels: judgments by query.
        run: each query's passages, best first; a missing passage ranks just past the end.

    Returns:
        `complete@10`: 1 if all relevant passages of a query are among the first ten, else 0;
        `max_rank`: the rank of the last relevant passage.

    Source: arXiv 2604.05684, Complete@10 and Max@R.

    >>> pool_measures({"q": {"a": 1, "b": 1}}, {"q": {"a": 0.9, "c": 0.8, "b": 0.7}})
    {'complete@10': {'q': 1.0}, 'max_rank': {'q': 3.0}}
    """
    max_ranks = {}
    for query_id, judgments in qrels.items():
        ranks = {name: rank for rank, name in enumerate(run.get(query_id, {}), start=1)}
        missing = len(ranks) + 1
        max_ranks[query_id] = float(max(ranks.get(name, missing) for name in judgments))
    complete = {query_id: float(rank <= 10) for query_id, rank in max_ranks.items()}
    return {"complete@10": complete, "max_rank": max_ranks}


def mean(values: Mapping[str, float] | Sequence[float]) -> float:
    """Return the unweighted mean."""
    listed = list(values.values()) if isinstance(values, Mapping) else values
    return sum(listed) / len(listed)


def macro(by_language: Mapping[str, float]) -> float:
    """Return the macro mean: the unweighted mean over the languages other than English.

    With English alone, return its value.

    >>> macro({"en": 0.9, "sw": 0.5, "yo": 0.3})
    0.4
    """
    others = [value for language, value in by_language.items() if language != ENGLISH]
    return mean(others) if others else by_language[ENGLISH]


def require_ir_measures() -> ModuleType:
    """Import `ir-measures`; called before encoding, so that a missing package fails early.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import ir_measures
    except ImportError:
        raise MissingPackageError(
            "evaluation needs the package ir-measures: pip install 'clear-search[train]'"
        ) from None
    return ir_measures
