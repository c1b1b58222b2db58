"""Unit vectors: the only embeddings that leave an encoder or enter an index.

A model computes NaN, infinity or zero where its weights are damaged or a sum overflows. Such a row
has another length than 1 also after normalization, so that one test of the length finds it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOLERANCE = 1e-3  # fp32 normalizes to 1e-6
BLOCK_ROWS = 16_384


def is_unit(embeddings: Tensor) -> Tensor:
    """Return which rows of embeddings, [B, D], are finite and of length 1: [B], on their device.

    >>> is_unit(torch.tensor([[0.6, 0.8], [0.0, 0.0], [torch.nan, 1.0]])).tolist()
    [True, False, False]
    """
    is_close: Tensor = (torch.linalg.vector_norm(embeddings, dim=-1) - 1).abs() < TOLERANCE
    return is_close


def are_unit(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the same for an array, [N, D] to [N]; a memory-mapped one is read block by block.

    >>> are_unit(np.array([[0.6, 0.8], [3e38, 3e38]], np.float32)).tolist()
    [True, False]
    """
    found = np.empty(len(vectors), np.bool_)
    with np.errstate(all="ignore"):
        for start in range(0, len(vectors), BLOCK_ROWS):
            block = vectors[start : start + BLOCK_ROWS]
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
            found[start : start + len(block)] = np.abs(lengths - 1) < TOLERANCE
    return found
