"""Dev-set evaluation during training: nDCG@10 by language, and the English gate.

Queries are encoded by `service.retrieval`, as in service.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Embeddings
from trainer.data.evaluation_set import evenly
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.languages import ENGLISH
from trainer.evaluation.measures import macro, mean

TOP_K = 10
# Larger than any nDCG@10: a score that fails the English gate is worse than any that passes.
GATE_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class DevSet:
    """The English passages of an evaluation set, and queries with their relevant passages.

    `relevant` holds for each query the places of its passages in `passages`.
    """

    name: str
    passages: tuple[str, ...]
    queries: Mapping[str, tuple[str, ...]]
    relevant: Mapping[str, tuple[frozenset[int], ...]]


# nDCG@10 by set, then by query language.
Scores = dict[str, dict[str, float]]


def read_dev_set(directory: Path, max_queries: int = 0) -> DevSet:
    """Read the English passages of an evaluation set and the queries that they answer.

    Args:
        directory: of the evaluation set.
        max_queries: of a language, spread evenly over the set; 0 for all.

    Raises:
        DataError: the set is not valid (file:line).
    """
    found = read_evaluation_set(directory)
    passages = [passage for _, passage in read_passages(found.corpus_path(ENGLISH))]
    place = {passage.passage_id: number for number, passage in enumerate(passages)}
    chosen = {
        language: evenly(found.judged_queries(language, ENGLISH), max_queries)
        for language in found.queries
    }
    relevant = {
        language: tuple(
            frozenset(place[each] for each in found.qrels[query.query_id] if each in place)
            for query in queries
        )
        for language, queries in chosen.items()
    }
    texts = {language: tuple(query.text for query in chosen[language]) for language in chosen}
    return DevSet(found.name, tuple(each.encoder_text for each in passages), texts, relevant)


def dev_scores(
    dev_set: DevSet, embed_queries: Callable[[Sequence[str]], Embeddings], passages: Embeddings
) -> dict[str, float]:
    """Return nDCG@10 by language of a set's queries over its passages.

    Args:
        dev_set: queries and their passages.
        embed_queries: embeds queries, [B, D].
        passages: the embeddings of `dev_set.passages`, [C, D].
    """
    means = {}
    for language, queries in dev_set.queries.items():
        scores = embed_queries(queries) @ passages.T
        means[language] = float(ndcg(scores, dev_set.relevant[language]).mean())
    return means


def ndcg(scores: NDArray[np.float32], relevant: Sequence[frozenset[int]]) -> NDArray[np.float64]:
    """Compute the nDCG@10 of each query with gains of 0 and 1; equal scores rank by place.

    Args:
        scores: of queries and all passages, [B, C].
        relevant: the places of each query's relevant passages, B of them.

    Source: trec_eval's ndcg_cut.

    >>> ndcg(np.array([[0.1, 0.9, 0.5]], dtype=np.float32), [frozenset({2})]).round(4).tolist()
    [0.6309]
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K]
    discounts = 1 / np.log2(np.arange(2, TOP_K + 2))
    values = [
        sum(discounts[rank] for rank, place in enumerate(row) if place in wanted)
        / discounts[: len(wanted)].sum()
        for row, wanted in zip(ranked.tolist(), relevant, strict=True)
    ]
    return np.array(values, dtype=np.float64)


def macro_mean(scores: Scores) -> float:
    """Average over the languages of each set except English, then over the sets."""
    return mean([macro(by_language) for by_language in scores.values()])


def english_drop(base: Scores, now: Scores) -> float:
    """Return the largest loss of English -> English in a set; 0 if no set has English queries."""
    drops = [base[name][ENGLISH] - now[name][ENGLISH] for name in base if ENGLISH in base[name]]
    return max(drops, default=0.0)


def worst_loss(base: Scores, now: Scores) -> float:
    """Return the largest loss of a language other than English in a set; 0 if none loses."""
    losses = [
        base[name][language] - value
        for name, by_language in now.items()
        for language, value in by_language.items()
        if language != ENGLISH
    ]
    return max([0.0, *losses])


def summary(
    base: Scores, now: Scores, margin: float, worst_weight: float = 0.0
) -> dict[str, float]:
    """Summarize an evaluation for the trainer, which keeps the weights of the best `gated`.

    Args:
        base: scores of the untrained encoder.
        now: scores of the current model.
        margin: the loss of English that the English gate allows.
        worst_weight: how much of the worst language's loss is subtracted from `gated`.
    """
    mean, drop, worst = macro_mean(now), english_drop(base, now), worst_loss(base, now)
    values = {"ndcg@10": mean, "english_drop": drop, "worst_loss": worst}
    values["gated"] = mean - worst_weight * worst - (GATE_PENALTY if drop > margin else 0.0)
    for name, by_language in now.items():
        values |= {f"{name}_{language}": value for language, value in by_language.items()}
    return values
