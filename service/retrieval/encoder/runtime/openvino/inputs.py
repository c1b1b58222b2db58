"""Inputs of a graph: a padded batch, and for a packed graph the places of its tokens."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.runtime.openvino.shapes import round_up

# The tokens of a packed batch are rounded up to so many sizes in each octave. Each size is a shape,
# of which OpenVINO keeps memory; rounding adds 3 % of tokens.
NUM_SIZES = 8


def padded_inputs(
    token_ids: NDArray[np.int64], attended: NDArray[np.int64], table: Tensor, length: int
) -> list[NDArray[Any]]:
    """Return the rows of the embedding table, [B, L, H], and the mask, [B, L], of a padded batch.

    Args:
        token_ids: [B, at most L].
        attended: the mask of the transformer, of the same shape.
        table: the embedding table, [V, H].
        length: L.
    """
    ids, mask = token_ids, attended
    if (missing := length - token_ids.shape[1]) > 0:
        padding = ((0, 0), (0, missing))
        ids, mask = np.pad(ids, padding), np.pad(mask, padding)
    embedded = torch.nn.functional.embedding(torch.from_numpy(ids), table).float()
    return [embedded.numpy(), mask]


def token_positions(
    mask: NDArray[np.int64], keeps_padding: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return where the tokens of a packed graph's column are in the padded batch, and back.

    Args:
        mask: [B, L], 0 for padding.
        keeps_padding: whether the column holds padding, too, and so depends on the shape alone.

    Returns:
        The place of each token in the flattened batch, [T]; the token of each place, [B, L].
        Padding of either refers to the first.

    >>> tokens, places = token_positions(np.array([[1, 1], [1, 0]]))
    >>> tokens.tolist(), places.tolist()
    ([0, 1, 2], [[0, 1], [2, 0]])
    """
    found = np.arange(mask.size) if keeps_padding else np.flatnonzero(mask)
    num_tokens = len(found) if keeps_padding else round_up(max(1, len(found)), NUM_SIZES)
    tokens = np.zeros(num_tokens, np.int32)
    tokens[: len(found)] = found
    places = np.zeros(mask.size, np.int32)
    places[found] = np.arange(len(found))
    return tokens, places.reshape(mask.shape)
