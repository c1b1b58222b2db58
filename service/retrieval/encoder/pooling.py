"""Pooling of token embeddings to one embedding a text; padding may be on either side."""

from collections.abc import Callable

import torch
from torch import Tensor

# B texts, L tokens, D embedding_dim.


def mean_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean of each text's token embeddings, without padding.

    Args:
        token_embeddings: last hidden states, [B, L, D].
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    Source: Reimers & Gurevych 2019, section 3.

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[2.0]]
    """
    mask = attention_mask.unsqueeze(-1).to(token_embeddings.dtype)  # [B, L, 1]
    return (token_embeddings * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def cls_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the embedding of each text's first token.

    Args:
        token_embeddings: last hidden states, [B, L, D].
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    >>> cls_pool(torch.tensor([[[9.0], [1.0], [3.0]]]), torch.tensor([[0, 1, 1]])).tolist()
    [[1.0]]
    """
    return _take(token_embeddings, attention_mask.argmax(dim=1))


def last_token_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the embedding of each text's last token.

    Args:
        token_embeddings: last hidden states, [B, L, D].
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    >>> last_token_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[3.0]]
    """
    from_the_end = attention_mask.flip(dims=[1]).argmax(dim=1)
    return _take(token_embeddings, attention_mask.shape[1] - 1 - from_the_end)


def max_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the largest value of each dimension over a text's tokens.

    Args:
        token_embeddings: last hidden states, [B, L, D].
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    >>> max_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[3.0]]
    """
    is_padding = attention_mask.unsqueeze(-1) == 0  # [B, L, 1]
    return token_embeddings.masked_fill(is_padding, -torch.inf).amax(dim=1)


def mean_sqrt_len_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the sum of each text's token embeddings over the square root of their number.

    Args:
        token_embeddings: last hidden states, [B, L, D].
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    >>> states = torch.tensor([[[1.0], [3.0], [2.0], [2.0]]])
    >>> mean_sqrt_len_pool(states, torch.tensor([[1, 1, 1, 1]])).tolist()
    [[4.0]]
    """
    mask = attention_mask.unsqueeze(-1).to(token_embeddings.dtype)  # [B, L, 1]
    return (token_embeddings * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()


def weighted_mean_pool(token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean of each text's token embeddings, weighted by their positions from 1.

    Args:
        token_embeddings: last hidden states, [B, L, D], without padding on the left.
        attention_mask: 1 for a token, 0 for padding, [B, L].

    Returns:
        [B, D], not yet unit-norm.

    Source: Muennighoff 2022 (SGPT), equation 2.

    >>> weighted_mean_pool(torch.tensor([[[1.0], [4.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[3.]])
    """
    positions = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    weights = (attention_mask * positions).unsqueeze(-1).to(token_embeddings.dtype)  # [B, L, 1]
    return (token_embeddings * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _take(token_embeddings: Tensor, positions: Tensor) -> Tensor:
    rows = torch.arange(len(positions), device=positions.device)
    return token_embeddings[rows, positions]


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_pool,
    "cls": cls_pool,
    "lasttoken": last_token_pool,
    "max": max_pool,
    "mean_sqrt_len_tokens": mean_sqrt_len_pool,
    "weightedmean": weighted_mean_pool,
}
