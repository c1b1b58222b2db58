"""Loss terms of CLEAR, InfoNCE and the frozen bridge, as pure functions of embeddings.

They know neither models nor files, and compute in fp32 under any autocast. B rows, N hard negatives
a row, C = B (N + 1) candidates, D embedding_dim. A row is a query in English, the same query in
another language, its passage, and hard negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.objective.divergences import (
    EXCLUDED,
    Detach,
    Direction,
    at_least_fp32,
    divergence,
    info_nce,
    kl_divergence,
    logits,
)
from trainer.objective.false_negatives import false_negatives

# Weighted loss terms by name; their sum is the loss.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class BatchEmbeddings:
    """Embeddings of one batch, of any norm, each [B, D], and the codes of its passages."""

    query: Tensor
    translated_query: Tensor
    positive: Tensor
    hard_negatives: Sequence[Tensor] = ()
    hard_negative_queries: Sequence[Tensor] = ()
    # Equal for equal passages: the positive's, then the hard negatives', [B, 1 + N].
    passage_codes: Tensor | None = None

    @property
    def passages(self) -> Tensor:
        """Return all rows' positives, then all rows' first hard negatives, and so on, [C, D]."""
        return torch.cat([self.positive, *self.hard_negatives])

    @property
    def translated_queries(self) -> Tensor:
        """Return the translated queries in the order of the `passages` they belong to, [C, D]."""
        return torch.cat([self.translated_query, *self.hard_negative_queries])


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of `weighted_terms`; a term of weight 0 is not computed."""

    english: float = 0.0  # English query -> passage
    cross: float = 0.0  # translated query -> passage, the direction of a search
    reverse: float = 0.0  # passage -> translated query
    kl: float = 0.0


def clear_weights(
    reverse: float = 0.4, kl: float = 0.2, *, is_search_time: bool = False
) -> Weights:
    """Return the weights of CLEAR's terms.

    Args:
        reverse: the paper's alpha.
        kl: the paper's beta.
        is_search_time: give half of the forward term to the translated query, which CLEAR as
            published compares only with its own passage.

    >>> clear_weights()
    Weights(english=0.4, cross=0.0, reverse=0.4, kl=0.2)
    """
    forward = round(1 - reverse - kl, 12)
    cross = forward / 2 if is_search_time else 0.0
    return Weights(english=forward - cross, cross=cross, reverse=reverse, kl=kl)


def weighted_terms(
    embeddings: BatchEmbeddings,
    rows: slice = slice(None),
    *,
    weights: Weights,
    temperature: float = 0.05,
    kl_direction: Direction = "published",
    kl_detach: Detach = "none",
) -> Terms:
    """Compute the terms of CLEAR, InfoNCE and mixtures of both; each is the mean over the rows.

    With A = cos(q, P)/t, X = cos(t, P)/t, C = cos(p, T)/t, where P are all passages and T all
    translated queries of the batch, row i's target is column i, and
    L = w_english CE(A) + w_cross CE(X) + w_reverse CE(C) + w_kl KL(softmax(C) || softmax(A)).
    CLEAR is w = (1 - alpha - beta, 0, alpha, beta).

    Args:
        embeddings: of the whole batch, of all devices.
        rows: the rows to average over; all rows of the batch are candidates.
        weights: of the terms.
        temperature: divides similarities.
        kl_direction: see `divergence`.
        kl_detach: see `divergence`.

    Source: CLEAR (arXiv 2604.05821), as its published code computes it.
    """
    targets = torch.arange(len(embeddings.query), device=embeddings.query.device)[rows]
    excluded = None
    if embeddings.passage_codes is not None:
        excluded = false_negatives(embeddings.passage_codes, rows)

    def scores(left: Tensor, right: Tensor) -> Tensor:
        found = logits(left[rows], right, temperature)
        if excluded is None:
            return found
        return found.masked_fill(excluded[:, : found.shape[1]], EXCLUDED)

    terms: Terms = {}
    english = translated = None
    if weights.english or weights.kl:
        english = scores(embeddings.query, embeddings.passages)
    if weights.reverse or weights.kl:
        translated = scores(embeddings.positive, embeddings.translated_queries)
    if weights.english and english is not None:
        terms["english"] = weights.english * info_nce(english, targets)
    if weights.cross:
        cross = scores(embeddings.translated_query, embeddings.passages)
        terms["cross"] = weights.cross * info_nce(cross, targets)
    if weights.reverse and translated is not None:
        terms["reverse"] = weights.reverse * info_nce(translated, targets)
    if weights.kl and english is not None and translated is not None:
        width = min(english.shape[1], translated.shape[1])  # only one side may have negatives
        pair = english[:, :width], translated[:, :width]
        terms["kl"] = weights.kl * divergence(*pair, kl_direction, kl_detach)
    return {name: term / len(targets) for name, term in terms.items()}


def frozen_bridge(
    translated_query: Tensor,
    base_query: Tensor,
    passages: Tensor,
    targets: Tensor,
    *,
    temperature: float = 0.02,
    cross: float = 0.5,
    kl: float = 0.5,
    anchor: float = 5.0,
    cross_weights: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Terms:
    """Compute the terms that draw translated queries to the base model's English ones.

    L = cross CE(T, target) + kl KL(softmax(E) || softmax(T)) + anchor (1 - cos(t, e)), with
    T = cos(t, P)/temperature and E = cos(e, P)/temperature; each term is the mean over the rows.
    Only t carries a gradient: the frozen base model embedded passages and English queries.

    Args:
        translated_query: t, [B, D].
        base_query: e, the base model's embedding of the English query, [B, D].
        passages: P, the base model's embeddings of the whole pool, [C, D].
        targets: each row's passage in the pool, [B].
        temperature: divides similarities.
        cross: weight of the cross-entropy of the target passage.
        kl: weight of the divergence from the English query's distribution over the pool.
        anchor: weight of the distance to the English query's embedding.
        cross_weights: of the rows in `cross`, [B]; a row without a passage has 0.
        excluded: true for passages that answer the query but are not its target, [B, C].
    """
    scores = logits(translated_query, passages, temperature)
    teacher = logits(base_query, passages, temperature)
    if excluded is not None:
        scores = scores.masked_fill(excluded, EXCLUDED)
        teacher = teacher.masked_fill(excluded, EXCLUDED)
    similarity = functional.cosine_similarity(
        at_least_fp32(translated_query), at_least_fp32(base_query), dim=-1
    )
    terms = {
        "cross": cross * info_nce(scores, targets, cross_weights),
        "kl": kl * kl_divergence(teacher, scores),
        "anchor": anchor * (1 - similarity).sum(),
    }
    return {name: term / len(targets) for name, term in terms.items()}
