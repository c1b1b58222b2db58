"""Passages that the encoder gives no unit vector for: reported, their documents left out."""

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import OnInvalid
from service.retrieval.errors import FIX, PassageError, quoted
from service.retrieval.indexing.staging import StagedPassages


class InvalidPassages:
    """Collects positions of staged passages without a unit vector while they are encoded."""

    def __init__(self, staged: StagedPassages, encoder_name: str, on_invalid: OnInvalid) -> None:
        """Start with none; `on_invalid` is called with the error of each."""
        self._staged = staged
        self._encoder_name = encoder_name
        self._on_invalid = on_invalid
        self._is_valid = np.ones(len(staged), np.bool_)
        self._first: int | None = None

    def add(self, positions: NDArray[np.int64]) -> None:
        """Collect positions; the first one is reported at once, which may end the build."""
        if self._first is None:
            self._first = int(positions[0])
            self._report(positions[:1])
        self._is_valid[positions] = False

    def remove(self) -> NDArray[np.bool_]:
        """Report the others, in one pass, and remove all from the staged passages.

        Returns:
            Which of the passages are left, [N].
        """
        positions = np.flatnonzero(~self._is_valid)
        self._report(positions[positions != self._first])
        positions = self._staged.with_siblings(positions)
        self._is_valid[positions] = False
        self._staged.remove(positions)
        return self._is_valid

    def _report(self, positions: NDArray[np.int64]) -> None:
        for passage_id, origin in self._staged.origins(positions):
            self._on_invalid(
                PassageError(
                    f"{origin}: the encoder {self._encoder_name} gives NaN, infinity or zero for "
                    f"the passage {quoted(passage_id)}: {FIX}, or remove the passage"
                )
            )
