"""StaticEmbedding: an embedding of each token from a table, without a transformer (model2vec)."""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.errors import CheckpointError


@dataclass(frozen=True)
class TokenEmbeddings:
    """The embeddings of a batch's tokens, [B, L, H], named as a transformer's output."""

    last_hidden_state: Tensor


class StaticEmbedding(nn.Module):
    """A table of token embeddings, called as a transformer is."""

    def __init__(self, table: Tensor) -> None:
        """Take the table, [V, H]."""
        super().__init__()
        self.embedding = nn.Embedding(table.shape[0], table.shape[1], _weight=table, _freeze=True)

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the table."""
        return torch.float32

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TokenEmbeddings:
        """Return the table's rows of token ids, [B, L] to [B, L, H]."""
        return TokenEmbeddings(self.embedding(input_ids))


def load_static_embedding(layout: CheckpointLayout) -> StaticEmbedding:
    """Load the table of a StaticEmbedding in fp32.

    sentence-transformers names it `embedding.weight`. model2vec names it `embeddings`, and may
    have a `mapping` from token ids to rows and `weights` of the token ids.

    Raises:
        CheckpointError: the weights are damaged or hold no table.
    """
    [path] = layout.weights
    try:
        tensors = load_file(path)
        table = tensors.get("embedding.weight", tensors.get("embeddings"))
        if table is None or table.dim() != 2:
            raise ValueError("there is no table `embedding.weight` or `embeddings`")
        table = table.float()
        if (mapping := tensors.get("mapping")) is not None:
            table = table[mapping.long()]
        if (weights := tensors.get("weights")) is not None:
            table = table * weights.float().unsqueeze(1)
    except (OSError, SafetensorError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold the table of a StaticEmbedding ({error}): restore it from a copy"
        ) from None
    return StaticEmbedding(table.contiguous())
