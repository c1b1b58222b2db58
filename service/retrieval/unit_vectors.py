"""Checks that embeddings are unit vectors; an encoder returns and an index stores no others.

A model with damaged weights or an overflowing sum computes NaN, infinity or zero. Normalization
does not give such a row the length 1, so a check of the length finds it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOLERANCE = 1e-3  # fp32 normalizes to 1e-6
BLOCK_ROWS = 16_384


def is_unit(embeddings: Tensor) -> Tensor:
    """Return which rows of a tensor [B, D] are finite and have length 1, as [B] on its device.

    >>> is_unit(torch.tensor([[0.6, 0.8], [0.0, 0.0], [torch.nan, 1.0]])).tolist()
    [True, False, False]
    """
    is_close: Tensor = (torch.linalg.vector_norm(embeddings, dim=-1) - 1).abs() < TOLERANCE
    return is_close


def are_unit(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows of a possibly memory-mapped array [N, D] are unit vectors, as [N].

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
