"""Masks of false negatives: candidates that hold a row's own passage but are not its target."""

import torch
from torch import Tensor


def false_negatives(passage_codes: Tensor, rows: slice) -> Tensor:
    """Mask the candidates of a batch that hold a row's own passage but are not its target.

    Such a passage is the positive of another row or a hard negative of any row. The same mask holds
    for queries, as each hard negative query belongs to the hard negative at its place.

    Args:
        passage_codes: equal for equal passages, the positive's first, [B, 1 + N].
        rows: the b of B rows to return.

    Returns:
        [b, C], true where a candidate must not count as a negative.
    """
    own = passage_codes[rows, :1]  # [b, 1]
    same = own == passage_codes.T.reshape(1, -1)  # [b, C]
    positions = torch.arange(len(passage_codes), device=own.device)[rows]
    same[torch.arange(len(positions), device=own.device), positions] = False
    return same


def pool_false_negatives(passage_codes: Tensor, targets: Tensor) -> Tensor:
    """Mask the passages of a frozen pool that equal a row's target but are not the target.

    Args:
        passage_codes: equal for equal passages of the pool, [P].
        targets: each row's passage by its place in the pool, [b].

    Returns:
        [b, P], true where a passage must not count as a negative.
    """
    same = passage_codes == passage_codes[targets, None]
    return same.scatter_(1, targets[:, None], False)
