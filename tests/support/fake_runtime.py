"""A runtime without weights that can be made to wait and to fail."""

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class FakeRuntime:
    """Embeds a text by its token ids alone, at once, unless a test makes it wait or fail."""

    name = "fake"
    device = torch.device("cpu")
    num_slots = 1

    def __init__(self, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim
        self.batch_sizes: list[int] = []
        self.error: Exception | None = None
        self.bad_token: int | None = None
        self.spoiled_token: int | None = None
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def passage_shape(self, length: int) -> None:
        """Name no shape: an embedding is the same in any."""

    def warm_up(self, max_batch_tokens: int) -> None:
        self.warmed_up_tokens = max_batch_tokens

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        self.batch_sizes.append(len(token_ids))
        self.has_begun.set()
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error
        if self.bad_token is not None and (token_ids == self.bad_token).any():
            raise ValueError("a token that this encoder cannot read")
        rows = [
            self._row(ids[mask == 1]) for ids, mask in zip(token_ids, attention_mask, strict=True)
        ]
        embeddings = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
        if self.spoiled_token is not None:
            embeddings[(token_ids == self.spoiled_token).any(axis=1)] = torch.nan
        return embeddings

    def _row(self, ids: NDArray[np.int64]) -> Tensor:
        generator = torch.Generator().manual_seed(hash(tuple(ids.tolist())) % 2**31)
        return torch.randn(self.embedding_dim, generator=generator)
