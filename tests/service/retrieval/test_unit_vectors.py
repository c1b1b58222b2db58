import warnings

import numpy as np
import pytest
import torch

from service.retrieval.unit_vectors import BLOCK_ROWS, are_unit, is_unit

UNIT = np.array([0.6, 0.0, -0.8], np.float32)
ROWS = {
    "unit": (UNIT, True),
    "rounded": (UNIT * np.float32(1 + 1e-6), True),
    "zero": (UNIT * 0, False),
    "negative zero": (UNIT * np.float32(-0.0), False),
    "NaN": (np.array([0.6, np.nan, 0.8], np.float32), False),
    "infinity": (np.array([np.inf, 0, 0], np.float32), False),
    "negative infinity": (np.array([0, -np.inf, 1], np.float32), False),
    "too long": (UNIT * 2, False),
    "beyond the range when squared": (UNIT * np.float32(3e38), False),
    "below the range when squared": (UNIT * np.float32(1e-30), False),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS)
def test_only_a_finite_row_of_length_1_is_a_unit_vector(
    row: np.ndarray[tuple[int], np.dtype[np.float32]], expected: bool
) -> None:
    rows = np.stack([UNIT, row, UNIT])

    with warnings.catch_warnings(action="error"):
        assert are_unit(rows).tolist() == [True, expected, True]
    assert is_unit(torch.from_numpy(rows)).tolist() == [True, expected, True]


def test_every_block_of_a_long_array_is_checked() -> None:
    rows = np.broadcast_to(UNIT, (2 * BLOCK_ROWS + 7, 3)).copy()
    invalid = [0, BLOCK_ROWS - 1, BLOCK_ROWS, len(rows) - 1]
    rows[invalid] = np.nan

    assert np.flatnonzero(~are_unit(rows)).tolist() == invalid


def test_no_rows_are_no_error() -> None:
    assert are_unit(np.empty((0, 3), np.float32)).tolist() == []
    assert is_unit(torch.empty(0, 3)).tolist() == []
