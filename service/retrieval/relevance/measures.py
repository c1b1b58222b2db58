"""Measures of probabilities: how well they separate, and how well they are calibrated."""

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
Labels = NDArray[np.bool_]
BINS = 10
PRECISION = 0.9


def auroc(probabilities: Features, labels: Labels, weights: Features) -> float:
    """Return the probability that a positive is above a negative; ties count half.

    Source: Hanley and McNeil 1982, with weighted cases. NaN if one class is missing.
    """
    values, group = np.unique(probabilities, return_inverse=True)
    positive = np.bincount(group, weights * labels, len(values))
    negative = np.bincount(group, weights * ~labels, len(values))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def calibration_error(probabilities: Features, labels: Labels, weights: Features) -> float:
    """Return the expected calibration error over ten bins of equal width.

    Source: Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    means, shares, sizes = reliability(probabilities, labels, weights)
    return float((np.abs(means - shares) * sizes).sum() / sizes.sum())


def reliability(
    probabilities: Features, labels: Labels, weights: Features
) -> tuple[Features, Features, Features]:
    """Return mean probability, share of positives and weight of each bin that is not empty."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    sizes = np.bincount(bins, weights, BINS).astype(np.float64)
    used = sizes > 0
    means = np.bincount(bins, weights * probabilities, BINS)[used] / sizes[used]
    shares = np.bincount(bins, weights * labels, BINS)[used] / sizes[used]
    return means, shares, sizes[used]


def recall_at_precision(
    probabilities: Features, labels: Labels, weights: Features, precision: float = PRECISION
) -> float:
    """Return the largest recall of a threshold whose precision is at least `precision`."""
    values, group = np.unique(-probabilities, return_inverse=True)
    positive = np.cumsum(np.bincount(group, weights * labels, len(values)))
    total = np.cumsum(np.bincount(group, weights, len(values)))
    good = positive >= precision * total
    return float(positive[good].max() / positive[-1]) if good.any() and positive[-1] else 0.0
