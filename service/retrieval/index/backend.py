"""What every backend is and does. A row is a vector's position; rows never leave the retrieval."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MAX_TOP_K = 1000


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query's nearest vectors, best first; as long as there are vectors to be found."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def first(self, top_k: int) -> "Ranking":
        """Cut the ranking to its best."""
        return Ranking(self.scores[:top_k], self.rows[:top_k])


class VectorIndex(Protocol):
    """A searchable set of unit-norm vectors; scores are inner products, in [-1, 1]."""

    @property
    def count(self) -> int:
        """Count the vectors."""

    @property
    def embedding_dim(self) -> int:
        """Tell the length of a vector."""

    def search(self, queries: NDArray[np.float32] | Tensor, top_k: int) -> list[Ranking]:
        """Find each query's `top_k` nearest vectors.

        Args:
            queries: unit-norm, [B, D]; a tensor may be on the device that encodes.
            top_k: 1 to `MAX_TOP_K`.
        """
