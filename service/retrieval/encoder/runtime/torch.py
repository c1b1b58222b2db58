"""The eager PyTorch runtime, the reference for every other runtime."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from service.retrieval.encoder.batches import Shape, are_parts
from service.retrieval.encoder.head import Head
from service.retrieval.encoder.runtime.weights import share_parameters
from service.retrieval.encoder.static import StaticEmbedding


class TorchRuntime:
    """A transformers model on a device, computed in the precision of its weights."""

    num_slots = 1  # a batch takes all cores, or the GPU

    def __init__(
        self,
        model: PreTrainedModel | StaticEmbedding,
        head: Head,
        device: torch.device,
        shared_with: "TorchRuntime | None" = None,
        changed: Collection[str] | None = None,
    ) -> None:
        """Move the model to the device.

        Args:
            model: moved in place; the caller must not use it afterwards.
            head: makes embeddings of the hidden states; moved in place.
            device: computes the embeddings.
            shared_with: the other side's runtime, with which equal weights are shared.
            changed: parameters that differ from the other side's, if known.
        """
        self._model = model.to(device).eval()  # type: ignore[arg-type]
        if shared_with is not None:
            share_parameters(self._model, shared_with._model, changed)
        self.head = head.to(device)
        self.device = device
        self.embedding_dim = self.head.output_dim(hidden_dim_of(self._model, device))
        precision = str(model.dtype).removeprefix("torch.")
        self.name = f"torch-{precision.replace('bfloat', 'bf').replace('float', 'fp')}"

    def passage_shape(self, length: int) -> Shape | None:
        """Return None: a CPU gives a row the same bits in any batch without padding."""

    def warm_up(self, max_batch_tokens: int) -> None:
        """Do nothing: eager PyTorch needs no preparation for a shape."""

    @torch.inference_mode()
    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D]."""
        mask = torch.from_numpy(attention_mask).to(self.device)
        ids = torch.from_numpy(token_ids).to(self.device)
        attended = self.head.attended(mask)
        if are_parts(token_ids, attention_mask):
            hidden = self.hidden_states(ids[:1], attended[:1]).expand(len(ids), -1, -1)
        else:
            hidden = self.hidden_states(ids, attended)
        embeddings: Tensor = self.head(hidden, mask)
        return embeddings

    def hidden_states(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the transformer's last hidden states, [B, L] to [B, L, H]."""
        states: Tensor = self._model(
            input_ids=token_ids, attention_mask=attention_mask
        ).last_hidden_state
        return states


@torch.inference_mode()
def hidden_dim_of(model: Any, device: torch.device) -> int:
    """Return the length of a model's hidden states, which no configuration states for certain."""
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return int(states.shape[-1])
