"""What every runtime is and does. B texts, L tokens, D embedding_dim."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Runtime(Protocol):
    """A loaded transformer with its pooling."""

    @property
    def name(self) -> str:
        """Name the program and the precision that compute, such as `torch-fp32`."""

    @property
    def device(self) -> torch.device:
        """Tell where embeddings come out."""

    @property
    def embedding_dim(self) -> int:
        """Tell the length of an embedding."""

    @property
    def num_slots(self) -> int:
        """Tell how many threads may embed at a time."""

    def warm_up(self, max_batch_tokens: int) -> None:
        """Make batches of up to so many padded tokens ready to run at once."""

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch.

        Args:
            token_ids: padded on the right, [B, L].
            attention_mask: 1 for a token, 0 for padding, [B, L].

        Returns:
            [B, D], unit-norm fp32, on `device`.
        """
