"""How good a run is; `ir-measures` holds the definitions."""

from types import ModuleType

from trainer.errors import MissingPackageError
from trainer.trec import Qrels, Run


def mean_measures(qrels: Qrels, run: Run) -> dict[str, float]:
    """Average each measure over the judged queries; one that the run lacks counts as zero.

    Returns:
        `ndcg@10`, `recall@1`, `recall@10`, `recall@100` and `mrr@10`.

    Raises:
        MissingPackageError: `ir-measures` is not installed.

    Source: trec_eval's ndcg_cut and recall; MS MARCO's reciprocal rank, zero past rank 10.

    >>> qrels, run = {"q": {"relevant": 1}}, {"q": {"other": 0.9, "relevant": 0.8}}
    >>> mean_measures(qrels, run)["mrr@10"]
    0.5
    """
    ir_measures = require_ir_measures()
    measures = {
        "ndcg@10": ir_measures.nDCG @ 10,
        "recall@1": ir_measures.R @ 1,
        "recall@10": ir_measures.R @ 10,
        "recall@100": ir_measures.R @ 100,
        "mrr@10": ir_measures.RR @ 10,
    }
    values = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    return {key: float(values[measure]) for key, measure in measures.items()}


def require_ir_measures() -> ModuleType:
    """Import `ir-measures`; called early, it stops a run before minutes of encoding are lost.

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
