"""The training loss: embeds the columns of a batch and passes them to an objective.

Plain form: one graph of the whole batch. Cached form: two forward passes in micro-batches, so that
no graph is larger than one micro-batch; its gradients are equal to those of the plain form.
B rows, D embedding_dim.

Source: GradCache, Gao et al. 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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

from trainer.objective.batch import BatchObjective
from trainer.objective.terms import Terms

# Rows whose logits are in memory at once in the cached form.
LOSS_ROWS = 1024
Features = dict[str, Any]


class RetrievalLoss(CachedLossMixin, nn.Module):
    """The loss that sentence-transformers' trainer calls; returns the weighted terms by name."""

    def __init__(
        self,
        model: SentenceTransformer,
        objective: BatchObjective,
        *,
        micro_batch_rows: int | None = None,
        micro_batch_tokens: int | None = None,
        is_gathering: bool = True,
    ) -> None:
        """Select the plain form, or the cached form if a micro-batch size is given.

        Args:
            model: embeds every column; the trainer replaces it with its wrapped form.
            objective: computes the terms.
            micro_batch_rows: texts of one forward pass of the cached form.
            micro_batch_tokens: tokens of one forward pass instead; a longer text has its own pass.
            is_gathering: whether the rows of all devices are candidates of each other.
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
        """Compute the terms; the gradient of their sum is that of the loss.

        Args:
            features: tokenized texts of each of `columns`.
            labels: as the objective reads them, [B, L].
        """
        features = list(features)
        if len(features) != len(self.columns):
            raise ValueError(
                f"{len(features)} columns were given for {', '.join(self.columns)}: give each once"
            )
        if not (self.mini_batch_size or self.mini_batch_num_tokens):
            embeddings = self._embed(features)
            world, rows = self._gather(embeddings, labels)
            return self.objective(*world, rows)
        total = self.forward_cached(features, labels)
        first, *others = self._terms  # the first term carries the gradient of all
        carrier = total - total.detach()
        return {first: self._terms[first] + carrier, **{name: self._terms[name] for name in others}}

    def _embed(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """Embed all query columns in one pass and all passage columns in another.

        Passages are about ten times as long: in a common pass, queries would be mostly padding.
        """
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
        """Compute the loss of embeddings that were computed in micro-batches.

        Args:
            reps: embeddings of each column, by micro-batch.
            labels: as the objective reads them, [B, L].
            with_backward: compute the gradients of `reps`, too.
        """
        assert labels is not None  # the trainer passes a label for every row
        embeddings = {
            name: torch.cat(parts) for name, parts in zip(self.columns, reps, strict=True)
        }
        (world, labels), rows = self._gather(embeddings, labels)
        # Gradients of chunks of rows add up in leaves; the graph below runs backward once.
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
        """Gather columns and labels from all devices; return them and the rows of this device."""
        num_rows = len(labels)
        if not self.is_gathering or get_world_size() == 1:
            return (dict(embeddings), labels), slice(0, num_rows)
        start = get_rank() * num_rows
        # Gathered column by column: in one block, a row's positive would not be at its place.
        world = {name: all_gather_with_grad(column) for name, column in embeddings.items()}
        return (world, all_gather(labels)), slice(start, start + num_rows)


def join_columns(columns: Sequence[Features]) -> Features:
    """Concatenate columns along the batch, padded on the right to the longest."""
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
