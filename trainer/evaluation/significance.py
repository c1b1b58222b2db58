"""Significance of a difference: permutation test, Holm correction, bootstrap intervals.

Questions about the same article are not independent, so articles are resampled, not questions. They
are resampled jointly in all languages, because a question and its translations are similarly hard.
Letters: C articles, L languages, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

NUM_RESAMPLES = 9_999
WINDOW_RESAMPLES = 1_000
CONFIDENCE = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """A value for each query, and the article of each query."""

    values: Mapping[str, float]
    articles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a mean: the 2.5 % and 97.5 % quantiles, and the 5 % quantile as one-sided bound."""

    low: float
    high: float
    low_one_sided: float


def permutation_p(differences: Sample, seed: int = 0) -> float:
    """Return the two-sided p value of a mean difference; flips the signs of whole articles.

    Source: Fisher's randomization test, Smucker et al. 2007, with articles as the units.
    """
    sums, _ = _sums([differences])
    if not sums.any():
        return 1.0
    found = permutation_test(
        (sums[:, 0],),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=WINDOW_RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of one family, corrected for multiple tests (family-wise error rate).

    Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def bootstrap(samples: Sequence[Sample], seed: int = 0) -> tuple[list[Interval], Interval]:
    """Return confidence intervals of each language's mean and of the macro mean over languages.

    Args:
        samples: one per language; articles of the same name are resampled together.
        seed: of the resampling.

    Returns:
        One interval per language, and that of the macro mean.

    Source: cluster bootstrap, Davison & Hinkley 1997, section 3.8.
    """
    sums, counts = _sums(samples)
    generator = np.random.default_rng(seed)
    num_articles = len(sums)
    means = []
    for start in range(0, NUM_RESAMPLES, WINDOW_RESAMPLES):
        size = min(WINDOW_RESAMPLES, NUM_RESAMPLES - start)
        drawn = generator.multinomial(num_articles, [1 / num_articles] * num_articles, size)
        with np.errstate(invalid="ignore"):  # 0 / 0 if no article of a language is drawn
            means.append((drawn @ sums) / (drawn @ counts))
    resampled = np.concatenate(means)  # [R, L]
    intervals = [_interval(column) for column in resampled.T]
    return intervals, _interval(resampled.mean(axis=1))


def _sums(samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Return the sums of values and the counts of queries by article and language, both [C, L]."""
    names = sorted({article for sample in samples for article in sample.articles.values()})
    rows = {name: row for row, name in enumerate(names)}
    sums, counts = np.zeros((len(rows), len(samples))), np.zeros((len(rows), len(samples)))
    for column, sample in enumerate(samples):
        for query_id, value in sample.values.items():
            row = rows[sample.articles[query_id]]
            sums[row, column] += value
            counts[row, column] += 1
    return sums, counts


def _interval(values: Floats) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, low_one_sided, high = np.nanquantile(values, [tail, 1 - CONFIDENCE, 1 - tail])
    return Interval(float(low), float(high), float(low_one_sided))
