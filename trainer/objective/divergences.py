"""Logits of similarities, their cross-entropy, and divergences between their distributions.

All functions compute in fp32 under any autocast. B rows, C candidates, D embedding_dim.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Direction = Literal["published", "opposite", "jsd"]
Detach = Literal["none", "english", "translated"]
# Logit of an excluded candidate: its probability is 0 and its log-probability is finite.
EXCLUDED = -1e4


def logits(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return cosine similarities divided by the temperature, [B, D] x [C, D] to [B, C], in fp32.

    >>> logits(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 0.5).tolist()
    [[2.0, 0.0]]
    """
    with torch.autocast(left.device.type, enabled=False):
        left, right = (functional.normalize(at_least_fp32(side), dim=-1) for side in (left, right))
        return left @ right.T / temperature


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Convert half precision to fp32; leave fp32 and fp64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def info_nce(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum the cross-entropy of each row's target, -log softmax(scores)[target], over the rows.

    Args:
        scores: logits, [b, C]; `EXCLUDED` for an excluded candidate.
        targets: the column of each row's target, [b].
        weights: of the rows, [b]; all 1 by default.

    Source: van den Oord et al. 2018, equation 4.
    """
    if weights is None:
        return functional.cross_entropy(scores, targets, reduction="sum")
    return functional.cross_entropy(scores, targets, reduction="none") @ weights.to(scores.dtype)


def kl_divergence(left: Tensor, right: Tensor) -> Tensor:
    """Sum KL(softmax(left) || softmax(right)) over the rows, sum_j l_j (log l_j - log r_j).

    Args:
        left: logits of the reference, [b, C]; both sides exclude the same candidates.
        right: logits of the approximation, [b, C].

    >>> certain, even = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> round(float(kl_divergence(certain, even)), 4), round(float(kl_divergence(even, certain)), 1)
    (0.6931, 24.3)
    """
    return _kl(functional.log_softmax(left, dim=-1), functional.log_softmax(right, dim=-1))


def _kl(left: Tensor, right: Tensor) -> Tensor:
    return (left.exp() * (left - right)).sum()


def jensen_shannon(left: Tensor, right: Tensor) -> Tensor:
    """Sum the Jensen-Shannon divergence of two distributions over the rows.

    It is the mean KL divergence of both from their mixture.

    Args:
        left: logits, [b, C]; both sides exclude the same candidates.
        right: logits, [b, C].

    Source: Lin 1991, equation 4.1 with equal weights.
    """
    left, right = functional.log_softmax(left, dim=-1), functional.log_softmax(right, dim=-1)
    mixture = torch.logaddexp(left, right) - math.log(2)
    return (_kl(left, mixture) + _kl(right, mixture)) / 2


def divergence(english: Tensor, translated: Tensor, direction: Direction, detach: Detach) -> Tensor:
    """Sum the divergence of English and translated distributions over the rows.

    Args:
        english: logits of English queries over passages, [b, C].
        translated: logits of passages over translated queries, [b, C].
        direction: `published` is KL(translated || english), as the paper's code computes it (its
            text reads as the opposite); `opposite` is KL(english || translated).
        detach: the side that gets no gradient and only teaches.
    """
    english = english.detach() if detach == "english" else english
    translated = translated.detach() if detach == "translated" else translated
    if direction == "jsd":
        return jensen_shannon(english, translated)
    if direction == "published":
        return kl_divergence(translated, english)
    return kl_divergence(english, translated)


def matched_temperature(query: Tensor, passages: Tensor, targets: Tensor) -> float:
    """Return the temperature at which a model's similarities predict the targets best.

    That is the temperature of least cross-entropy among 60 between .005 and .2, spaced evenly in
    the logarithm: temperature scaling, which leaves the embeddings unchanged.

    Args:
        query: [B, D].
        passages: [C, D].
        targets: each query's passage, [B].

    Source: Guo et al. 2017, section 4.2.
    """
    candidates = torch.logspace(math.log10(0.005), math.log10(0.2), 60).tolist()
    similarities = logits(query, passages, 1.0)
    losses = [float(info_nce(similarities / candidate, targets)) for candidate in candidates]
    return float(candidates[losses.index(min(losses))])
