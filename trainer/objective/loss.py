"""Joins an objective with a model: which columns are embedded, how, and on which devices.

Plain: one graph of the whole batch. Cached: two forward passes in micro-batches and no graph larger
than one of them, with equal gradients (GradCache, Gao et al. 2021). B rows, D embedding_dim.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util.distributed import (
    all_gather,
    all_gather_with_grad,
    get_rank,
    get_world_size,
)
from torch import Tensor, nn

from trainer.objective.terms import Terms

# Rows of logits that are alive at once in the cached form.
LOSS_ROWS = 1024
Features = dict[str, Any]


class BatchObjective(Protocol):
    """An objective that names the columns it reads."""

    @property
    def query_columns(self) -> tuple[str, ...]:
        """Name the columns of queries."""

    @property
    def passage_columns(self) -> tuple[str, ...]:
        """Name the columns of passages."""

    def __call__(self, embeddings: Mapping[str, Tensor], labels: Tensor, rows: slice) -> Terms:
        """Compute the terms' means over some rows.

        Args:
            embeddings: by column, of all devices' rows, each [B, D].
            labels: what the objective knows of each row besides its texts, [B, L].
            rows: this device's rows, or some of them.
        """


class RetrievalLoss(CachedLossMixin, nn.Module):
    """The loss that sentence-transformers' trainer calls; it answers the terms by name."""

    def __init__(
        self,
        model: SentenceTransformer,
        objective: BatchObjective,
        *,
        micro_batch_rows: int | None = None,
        micro_batch_tokens: int | None = None,
        is_gathering: bool = True,
    ) -> None:
        """Choose the form.

        Args:
            model: embeds every column; the trainer replaces it by its wrapped form.
            objective: what is minimised.
            micro_batch_rows: texts of a forward pass of the cached form.
            micro_batch_tokens: tokens of one instead, a longer text alone. None of both: the plain
                form.
            is_gathering: let all devices' rows be candidates of each other.
        """
        super().__init__()
        self.model = model
        self.objective = objective
        self.mini_batch_size = micro_batch_rows or 0
        self.mini_batch_num_tokens = micro_batch_tokens or None
        self.is_gathering = is_gathering
        self.columns = (*objective.query_columns, *objective.passage_columns)
        self._terms: Terms = {}

    def forward(self, features: Sequence[Features], labels: Tensor) -> Terms:
        """Compute the terms; their sum carries the gradient."""
        features = list(features)
        if len(features) != len(self.columns):
            raise ValueError(f"{len(features)} columns came for {', '.join(self.columns)}")
        if not (self.mini_batch_size or self.mini_batch_num_tokens):
            embeddings = self._embed(features)
            world, rows = self._gather(embeddings, labels)
            return self.objective(*world, rows)
        total = self.forward_cached(features, labels)
        first, *others = self._terms  # the first carries the gradient of all
        carrier = total - total.detach()
        return {first: self._terms[first] + carrier, **{name: self._terms[name] for name in others}}

    def _embed(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """Embed the queries in one forward pass and the passages, ten times as long, in another."""
        num_queries = len(self.objective.query_columns)
        groups = [features[:num_queries], features[num_queries:]]
        embedded: list[Tensor] = []
        for group in filter(None, groups):
            joined = self.model(join_columns(group))["sentence_embedding"]
            embedded.extend(joined.chunk(len(group)))
        return dict(zip(self.columns, embedded, strict=True))

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Compute the loss of embeddings that came in micro-batches, and their gradients."""
        assert labels is not None  # the trainer has a label for every row
        embeddings = {
            name: torch.cat(parts) for name, parts in zip(self.columns, reps, strict=True)
        }
        (world, labels), rows = self._gather(embeddings, labels)
        # Chunks of rows add up their gradients in leaves; what lies below runs backward once.
        leaves = {name: column.detach().requires_grad_() for name, column in world.items()}
        num_rows = rows.stop - rows.start
        totals: Terms = {}
        for start in range(rows.start, rows.stop, LOSS_ROWS):
            chunk = slice(start, min(start + LOSS_ROWS, rows.stop))
            share = (chunk.stop - chunk.start) / num_rows
            with torch.set_grad_enabled(with_backward):
                terms = self.objective(leaves, labels, chunk)
                loss = torch.stack(list(terms.values())).sum() * share
            if with_backward:
                loss.backward()
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + term.detach() * share
        if with_backward:
            grads = [leaf.grad for leaf in leaves.values()]
            torch.autograd.backward(list(world.values()), grads)
        self._terms = totals
        return torch.stack(list(totals.values())).sum()

    def _gather(
        self, embeddings: Mapping[str, Tensor], labels: Tensor
    ) -> tuple[tuple[dict[str, Tensor], Tensor], slice]:
        """Collect each column from all devices, and say which rows are this device's."""
        num_rows = len(labels)
        if not self.is_gathering or get_world_size() == 1:
            return (dict(embeddings), labels), slice(0, num_rows)
        start = get_rank() * num_rows
        # Column by column: gathered as one block, a row's positive would not be at its place.
        world = {name: all_gather_with_grad(column) for name, column in embeddings.items()}
        return (world, all_gather(labels)), slice(start, start + num_rows)


def join_columns(columns: Sequence[Features]) -> Features:
    """Lay several columns of one width below each other, padded on the right to the longest."""
    if len(columns) == 1:
        return dict(columns[0])
    width = max(column["input_ids"].shape[1] for column in columns)
    joined = dict(columns[0])
    for name, first in columns[0].items():
        if isinstance(first, Tensor) and first.ndim == 2:
            parts = [column[name] for column in columns]
            joined[name] = torch.cat(
                [nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
            )
    return joined
