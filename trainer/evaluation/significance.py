"""Is a difference more than chance? Questions about one article are no independent evidence.

So articles, not questions, are resampled, and jointly in all languages: a question and its
translations share what makes them hard. C articles, L languages, R resamples.
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
    """A value a query, and each query's article."""

    values: Mapping[str, float]
    articles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a mean: the 2.5 % and 97.5 % quantiles, and the 5 % one for a one-sided claim."""

    low: float
    high: float
    low_one_sided: float


def permutation_p(differences: Sample, seed: int = 0) -> float:
    """Test whether the mean difference is 0: two-sided, the signs of whole articles flipped.

    Source: Fisher's randomisation test, Smucker et al. 2007, with articles as the units.
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
    """Adjust p values of one family so that the chance of any false alarm stays below each.

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
    """Bound the mean of each language, and the macro mean over them, by resampling articles.

    Args:
        samples: one a language; articles of one name are resampled together.
        seed: of the resampling.

    Returns:
        An interval a language, and that of the macro mean.

    Source: cluster bootstrap, Davison & Hinkley 1997, section 3.8.
    """
    sums, counts = _sums(samples)
    generator = np.random.default_rng(seed)
    num_articles = len(sums)
    means = []
    for start in range(0, NUM_RESAMPLES, WINDOW_RESAMPLES):
        size = min(WINDOW_RESAMPLES, NUM_RESAMPLES - start)
        drawn = generator.multinomial(num_articles, [1 / num_articles] * num_articles, size)
        with np.errstate(invalid="ignore"):  # no article of a language drawn: 0 / 0
            means.append((drawn @ sums) / (drawn @ counts))
    resampled = np.concatenate(means)  # [R, L]
    intervals = [_interval(column) for column in resampled.T]
    return intervals, _interval(resampled.mean(axis=1))


def _sums(samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Sum values and count queries by article and language, both [C, L]."""
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
