"""Measures of a calibration by corpus and language, with the interval of the calibration error."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.retrieval.relevance.fit import JudgedRanking
from service.retrieval.relevance.measures import (
    BINS,
    Features,
    auroc,
    calibration_error,
    recall_at_precision,
)

POOLED = "all"
RESAMPLES = 500
INTERVAL = (2.5, 97.5)  # percentiles
DIGITS = 4


def measures_by_group(judged: Sequence[JudgedRanking], relevances: Features) -> dict[str, Any]:
    """Return the measures of all rankings, of each corpus, and of each language in it."""
    counted = np.array([each.measured_weight > 0 for each in judged])
    corpora = np.array([each.corpus for each in judged])
    languages = np.array([each.language for each in judged])

    def of(rows: Any) -> dict[str, Any]:
        rows = np.flatnonzero(rows & counted)
        return _measures([judged[int(row)] for row in rows], relevances[rows])

    found: dict[str, Any] = {POOLED: of(counted)}
    for corpus in sorted(set(corpora)):
        is_of = corpora == corpus
        found[corpus] = {POOLED: of(is_of)}
        for language in sorted(set(languages[is_of])):
            found[corpus][language] = of(is_of & (languages == language))
    return found


def _measures(judged: Sequence[JudgedRanking], relevances: Features) -> dict[str, Any]:
    labels = np.array([each.is_answered for each in judged])
    weights = np.array([each.measured_weight for each in judged])
    is_mixed = len(set(labels.tolist())) == 2
    return {
        "queries": len(judged),
        "auroc": round(auroc(relevances, labels, weights), DIGITS) if is_mixed else None,
        "ece": round(calibration_error(relevances, labels, weights), DIGITS),
        "ece_interval": _error_interval(judged, relevances, weights * labels, weights),
        "recall": round(recall_at_precision(relevances, labels, weights), DIGITS),
    }


def _error_interval(
    judged: Sequence[JudgedRanking], relevances: Features, answered: Features, weights: Features
) -> list[float]:
    """Return the 95 % interval of the calibration error, by a bootstrap over articles.

    Source: Efron and Tibshirani 1993, chapter 13 (percentiles); the article is the unit, because
    queries about one are not independent.
    """
    names = [f"{each.corpus}/{each.article}" for each in judged]
    articles, article = np.unique(names, return_inverse=True)
    bins = np.minimum((relevances * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(articles), BINS))  # expected less observed weight of answers
    np.add.at(gaps, (article, bins), weights * relevances - answered)
    sizes = np.bincount(article, weights, len(articles))
    chances = np.full(len(articles), 1 / len(articles))
    drawn = np.random.default_rng(0).multinomial(len(articles), chances, RESAMPLES)
    errors = np.abs(drawn @ gaps).sum(axis=1) / (drawn @ sizes)
    return [round(float(each), DIGITS) for each in np.percentile(errors, INTERVAL)]
