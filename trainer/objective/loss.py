"""The training loss: embeds the columns of a batch and passes them to an objective.

Texts are embedded in micro-batches of similar length, and their embeddings put back in order.
Plain form: one graph of the whole batch. Row by row: where an objective compares no two rows, each
micro-batch has its own graph. Cached form: a second forward pass, so that no graph is larger than
one micro-batch. The gradients of the forms are equal.
B rows, T texts of all columns, D embedding_dim.

Source: GradCache, Gao et al. 2021 (the cached form).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import RandContext
from sentence_transformers.util.distributed import (
    all_gather,
    all_gather_with_grad,
    get_rank,
    get_world_size,
)
from torch import Tensor, nn

from trainer.objective.batch import BatchObjective
from trainer.objective.micro_batches import Features, MicroBatch, cut_by_length, in_order
from trainer.objective.terms import Terms

# Rows whose logits are in memory at once in the cached form.
LOSS_ROWS = 1024
# Tokens of a pass where no size is set: enough for matrix products at full speed.
CPU_TOKENS, GPU_TOKENS = 1024, 32768


class RetrievalLoss(nn.Module):
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
        """Select the cached form if a micro-batch size is given and rows are compared.

        Args:
            model: embeds every column; the trainer replaces it with its wrapped form.
            objective: computes the terms.
            micro_batch_rows: texts of one forward pass.
            micro_batch_tokens: tokens of one forward pass instead; a longer text has its own pass.
            is_gathering: whether the rows of all devices are candidates of each other.
        """
        super().__init__()
        self.model = model
        self.objective = objective
        self.is_gathering = is_gathering
        self.columns = (*objective.query_columns, *objective.passage_columns)
        self._max_texts = micro_batch_rows or None
        self._max_tokens = micro_batch_tokens or None

    def forward(self, features: Sequence[Features], labels: Tensor) -> Terms:
        """Compute the terms; the gradient of their sum is that of the loss.

        Args:
            features: tokenized texts of each of `columns`.
            labels: as the objective reads them, [B, L].
        """
        if len(features) != len(self.columns):
            raise ValueError(
                f"{len(features)} columns were given for {', '.join(self.columns)}: give each once"
            )
        micro_batches = self.cut(features)
        if self.objective.has_independent_rows:
            return self._row_by_row(micro_batches, labels)
        if self._max_texts or self._max_tokens:
            return self._cached(micro_batches, labels)
        embedded = [self._embed(each) for each in micro_batches]
        return self.objective(*self._gather(in_order(embedded, micro_batches), labels))

    def cut(self, features: Sequence[Features]) -> list[MicroBatch]:
        """Cut the query columns and the passage columns, which have other prompts and lengths."""
        max_tokens = self._max_tokens
        if not (max_tokens or self._max_texts):
            is_on_cpu = features[0]["attention_mask"].device.type == "cpu"
            max_tokens = CPU_TOKENS if is_on_cpu else GPU_TOKENS
        num_queries = len(self.objective.query_columns)
        num_query_texts = sum(len(column["attention_mask"]) for column in features[:num_queries])
        cut: list[MicroBatch] = []
        for group, offset in (
            (features[:num_queries], 0),
            (features[num_queries:], num_query_texts),
        ):
            if group:
                found = cut_by_length(group, max_tokens=max_tokens, max_texts=self._max_texts)
                cut += [MicroBatch(each.features, each.places + offset) for each in found]
        return cut

    def _embed(self, micro_batch: MicroBatch) -> Tensor:
        # A pooling module may change the mask in place, and the cached form embeds twice.
        features = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in micro_batch.features.items()
        }
        embedded: Tensor = self.model(features)["sentence_embedding"]
        return embedded

    def _row_by_row(self, micro_batches: Sequence[MicroBatch], labels: Tensor) -> Terms:
        """Compute terms and gradients one micro-batch at a time; there is one column."""
        gradients = Gradients(self.model)
        totals: Terms = {}
        for micro_batch in micro_batches:
            embeddings = {self.columns[0]: self._embed(micro_batch)}
            count = len(micro_batch.places)
            terms = self.objective(embeddings, labels[micro_batch.places], slice(0, count))
            loss = add_terms(totals, terms, count / len(labels))
            gradients.add(loss)
        return gradients.carried_by(totals)

    def _cached(self, micro_batches: Sequence[MicroBatch], labels: Tensor) -> Terms:
        """Embed without a graph, compute the embeddings' gradients, and embed again with them."""
        states, embedded = [], []
        with torch.no_grad():
            for micro_batch in micro_batches:
                states.append(RandContext(*micro_batch.features.values()))
                embedded.append(self._embed(micro_batch))
        torch.clear_autocast_cache()  # it holds weights that were converted without a graph
        embeddings = in_order(embedded, micro_batches).requires_grad_()
        totals = self._backward_to(embeddings, labels)
        gradients = Gradients(self.model)
        if embeddings.grad is not None:
            for micro_batch, state in zip(micro_batches, states, strict=True):
                with state:
                    again = self._embed(micro_batch)
                gradients.add(again, embeddings.grad[micro_batch.places].to(again.dtype))
        return gradients.carried_by(totals)

    def _backward_to(self, embeddings: Tensor, labels: Tensor) -> Terms:
        """Compute the terms of embeddings and, if gradients are enabled, the embeddings' `grad`."""
        world, labels, rows = self._gather(embeddings, labels)
        # Gradients of chunks of rows add up in leaves; the graph below runs backward once.
        leaves = {name: column.detach().requires_grad_() for name, column in world.items()}
        num_rows = rows.stop - rows.start
        totals: Terms = {}
        for start in range(rows.start, rows.stop, LOSS_ROWS):
            chunk = slice(start, min(start + LOSS_ROWS, rows.stop))
            terms = self.objective(leaves, labels, chunk)
            loss = add_terms(totals, terms, (chunk.stop - chunk.start) / num_rows)
            if torch.is_grad_enabled():
                loss.backward()  # type: ignore[no-untyped-call]
        if torch.is_grad_enabled():
            grads = [leaf.grad for leaf in leaves.values()]
            torch.autograd.backward(list(world.values()), grads)
        return totals

    def _gather(
        self, embeddings: Tensor, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, slice]:
        """Return columns and labels, of all devices, and the rows of this device.

        Args:
            embeddings: of all texts, column by column, [T, D].
            labels: [B, L].
        """
        num_rows = len(labels)
        columns = dict(zip(self.columns, embeddings.chunk(len(self.columns)), strict=True))
        if not self.is_gathering or get_world_size() == 1:
            return columns, labels, slice(0, num_rows)
        start = get_rank() * num_rows
        # Gathered column by column: in one block, a row's positive would not be at its place.
        world = {name: all_gather_with_grad(column) for name, column in columns.items()}
        return world, all_gather(labels), slice(start, start + num_rows)


def add_terms(totals: Terms, terms: Mapping[str, Tensor], share: float) -> Tensor:
    """Add the terms of a share of the rows to the totals; return their sum with its graph."""
    for name, term in terms.items():
        totals[name] = totals.get(name, 0.0) + term.detach() * share
    return torch.stack(list(terms.values())).sum() * share


class Gradients:
    """Gradients of a model's trained parameters, summed over the graphs of micro-batches."""

    def __init__(self, model: nn.Module) -> None:
        """Start at zero."""
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._sums: list[Tensor | None] = [None] * len(self._parameters)

    def add(self, output: Tensor, grad_output: Tensor | None = None) -> None:
        """Add the gradients of an output and free its graph; without a graph, do nothing."""
        if not output.requires_grad:
            return
        found = torch.autograd.grad(output, self._parameters, grad_output, allow_unused=True)
        for number, gradient in enumerate(found):
            total = self._sums[number]
            if total is None or gradient is None:
                self._sums[number] = gradient if total is None else total
            else:
                total += gradient

    def carried_by(self, terms: Terms) -> Terms:
        """Return the terms; the backward pass of the first adds the gradients to the parameters."""
        if all(gradient is None for gradient in self._sums):
            return terms
        first, *others = terms
        carrier = _Computed.apply(  # type: ignore[no-untyped-call]
            terms[first], self._sums, *self._parameters
        )
        return {first: carrier, **{name: terms[name] for name in others}}


class _Computed(torch.autograd.Function):
    """A value whose gradients are known; the trainer's backward pass scales and applies them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        scale = grad_outputs[0]
        scaled = (None if each is None else each * scale for each in ctx.gradients)
        return None, None, *scaled
