"""Libraries that take texts and return vectors themselves, as engines of `cpu_engines`.

Each loads the same checkpoint in fp32 and computes on all cores.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from service.retrieval.encoder.encoder import EncodedTexts

PROMPT = "query: "


class Library(Protocol):
    """A library with a loaded model."""

    def encode(self, texts: Sequence[str], role: str) -> EncodedTexts:
        """Return the embeddings of queries."""


class SentenceTransformers:
    """sentence-transformers' own `encode`, with PyTorch on the CPU."""

    def __init__(self, checkpoint: Path) -> None:
        """Load the checkpoint, a Sentence Transformers folder."""
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)

    def encode(self, texts: Sequence[str], role: str) -> EncodedTexts:
        """Encode all texts as one batch."""
        found = self._model.encode(
            list(texts),
            prompt=PROMPT,
            batch_size=len(texts),
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return EncodedTexts(np.asarray(found, np.float32), 0, 0)


LIBRARIES: dict[str, Callable[[Path], Library]] = {"sentence": SentenceTransformers}
