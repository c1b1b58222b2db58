"""The interface of every runtime. B texts, L tokens, D embedding_dim."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.batches import Shape


class Runtime(Protocol):
    """A loaded transformer with its head."""

    @property
    def name(self) -> str:
        """Return the library and the precision that compute, such as `torch-fp32`."""

    @property
    def device(self) -> torch.device:
        """Return the device that holds the embeddings."""

    @property
    def embedding_dim(self) -> int:
        """Return the length of an embedding."""

    @property
    def num_slots(self) -> int:
        """Return the number of threads that may run `embed` at once."""

    def passage_shape(self, length: int) -> Shape | None:
        """Return the only shape in which a CPU embeds passages of a length; None if it may be any.

        A runtime whose rounding depends on the shape of a batch has one for each length.
        """

    def warm_up(self, max_batch_tokens: int) -> None:
        """Prepare for batches of up to `max_batch_tokens` padded tokens."""

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch.

        Args:
            token_ids: padded on the right, [B, L].
            attention_mask: 0 for padding, 2 for a token that the head does not pool, else 1,
                [B, L].

        Returns:
            [B, D], unit-norm fp32, on `device`.
        """
