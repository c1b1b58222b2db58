"""The measures of probabilities, by their definitions."""

import math

import numpy as np
import pytest

from service.retrieval.relevance.measures import (
    auroc,
    calibration_error,
    recall_at_precision,
    reliability,
)

RANDOM = np.random.default_rng(1)
VALUES = RANDOM.integers(0, 20, 200) / 20
LABELS = RANDOM.random(200) < VALUES
WEIGHTS = RANDOM.integers(1, 4, 200).astype(float)


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    pairs = ordered = 0.0
    for own, weight in zip(VALUES[LABELS], WEIGHTS[LABELS], strict=True):
        for other, its_weight in zip(VALUES[~LABELS], WEIGHTS[~LABELS], strict=True):
            pairs += weight * its_weight
            ordered += weight * its_weight * ((own > other) + (own == other) / 2)
    assert auroc(VALUES, LABELS, WEIGHTS) == pytest.approx(ordered / pairs)


def test_auroc_of_one_class_is_nan() -> None:
    assert math.isnan(auroc(VALUES, np.ones(200, bool), WEIGHTS))


def test_the_calibration_error_weighs_the_gap_of_each_bin_by_its_size() -> None:
    values = np.array([0.1, 0.15, 0.8, 0.9])
    labels = np.array([False, True, True, True])
    found = calibration_error(values, labels, np.array([1.0, 1.0, 1.0, 1.0]))
    assert found == pytest.approx((2 * (0.5 - 0.125) + 0.2 + 0.1) / 4)


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    means, shares, sizes = reliability(np.ones(2), np.array([True, False]), np.ones(2))
    assert (means.tolist(), shares.tolist(), sizes.tolist()) == ([1.0], [0.5], [2.0])


def test_recall_at_precision_takes_the_lowest_threshold_that_is_precise_enough() -> None:
    values = np.array([0.9, 0.8, 0.7, 0.6])
    labels = np.array([True, True, False, True])
    assert recall_at_precision(values, labels, np.ones(4), 0.75) == 1.0
    assert recall_at_precision(values, labels, np.ones(4), 0.9) == pytest.approx(2 / 3)


def test_recall_is_zero_where_no_threshold_is_precise_enough() -> None:
    assert recall_at_precision(np.array([0.9, 0.1]), np.array([False, True]), np.ones(2)) == 0.0
