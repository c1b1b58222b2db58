"""What a model is worth while it learns: nDCG@10 of dev queries, and English kept or not.

It encodes through `service.retrieval`, so that what is measured is what serves.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.encoder import Embeddings, Encoder
from trainer.config import DevConfig
from trainer.languages import ENGLISH
from trainer.rows import read_rows

TOP_K = 10
# A result that breaks the English gate is worse than any that keeps it.
GATE_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class DevSet:
    """The queries of one file by language, each with the places of its passages in the pool."""

    name: str
    queries: Mapping[str, tuple[str, ...]]
    relevant: Mapping[str, tuple[frozenset[int], ...]]


@dataclass(frozen=True, slots=True)
class Dev:
    """All dev sets over one pool of passages."""

    passages: tuple[str, ...]
    sets: tuple[DevSet, ...]


# nDCG@10 by set, then by query language.
Scores = dict[str, dict[str, float]]


def read_dev(config: DevConfig) -> Dev:
    """Read the dev sets and pool their passages with those of `config.pool`.

    Raises:
        DataError: a file is faulty (file:line).
    """
    places: dict[str, int] = {}
    sets = [_dev_set(path, places, config.max_queries) for path in dict.fromkeys(config.rows)]
    for path in config.pool:
        for _, row in read_rows(path):
            places.setdefault(row.positive, len(places))
    return Dev(tuple(places), tuple(sets))


def _dev_set(path: Path, places: dict[str, int], max_queries: int) -> DevSet:
    """Ask each row's query in its language, and each English query once."""
    relevant: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for _, row in read_rows(path):
        place = places.setdefault(row.positive, len(places))
        relevant[row.language][row.translated_query].add(place)
        relevant[ENGLISH][row.query].add(place)
    chosen = {
        language: dict(list(queries.items())[: max_queries or None])
        for language, queries in sorted(relevant.items())
    }
    return DevSet(
        path.stem,
        {language: tuple(queries) for language, queries in chosen.items()},
        {language: tuple(map(frozenset, q.values())) for language, q in chosen.items()},
    )


def dev_scores(dev: Dev, encoder: Encoder, passage_embeddings: Embeddings) -> Scores:
    """Search the pool with every query.

    Args:
        dev: queries and their passages.
        encoder: embeds the queries.
        passage_embeddings: of `dev.passages`, by whichever model they are searched with, [C, D].
    """
    scores: Scores = {}
    for dev_set in dev.sets:
        scores[dev_set.name] = {}
        for language, queries in dev_set.queries.items():
            found = encoder.encode(queries, "query").embeddings @ passage_embeddings.T
            values = ndcg(found, dev_set.relevant[language])
            scores[dev_set.name][language] = float(values.mean())
    return scores


def ndcg(scores: NDArray[np.float32], relevant: Sequence[frozenset[int]]) -> NDArray[np.float64]:
    """Compute each query's nDCG@10 with gains of 0 and 1; equal scores rank by place.

    Args:
        scores: of queries with all passages, [B, C].
        relevant: the places of each query's passages, B.

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
    """Average over the languages other than English of a set, then over the sets."""
    means = []
    for by_language in scores.values():
        others = [value for language, value in by_language.items() if language != ENGLISH]
        means.append(sum(others) / len(others) if others else by_language[ENGLISH])
    return sum(means) / len(means)


def english_drop(base: Scores, now: Scores) -> float:
    """Tell the most that English -> English lost in any set; below 0 where all gained."""
    return max(base[name][ENGLISH] - now[name][ENGLISH] for name in base)


def summary(base: Scores, now: Scores, margin: float) -> dict[str, float]:
    """Sum up an evaluation for the trainer, which keeps the best `gated` one."""
    mean, drop = macro_mean(now), english_drop(base, now)
    values = {"ndcg@10": mean, "english_drop": drop}
    values["gated"] = mean - (GATE_PENALTY if drop > margin else 0.0)
    for name, by_language in now.items():
        values |= {f"{name}_{language}": value for language, value in by_language.items()}
    return values
