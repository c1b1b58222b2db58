"""The searchable corpora of evaluation sets: indexes as the service's, built once and kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from service.retrieval.build.build import build_index
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    Generation,
    current_name,
    generations_directory,
    open_current,
)
from service.retrieval.generation.manifest import VECTORS
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.index.torch_flat import TorchFlatIndex
from service.retrieval.progress import OnProgress
from service.retrieval.searcher import Searcher
from service.retrieval.storage.artifact import sha256_of
from trainer.data.evaluation_set import EvaluationSet

KEY_CHARACTERS = 32
# Passage id -> score, best first.
Ranked = dict[str, float]


class Corpora:
    """Builds and opens an index a corpus, for one encoder; equal corpora are embedded once.

    An index is kept under the hash of its passages and of all that decides their embeddings, so
    that a query encoder tuned against frozen passages finds them embedded already.
    """

    def __init__(
        self, encoder: Encoder, directory: Path, on_progress: OnProgress, *, is_centered: bool
    ) -> None:
        """Keep the indexes in a folder.

        Args:
            encoder: embeds passages and queries.
            directory: made if missing.
            on_progress: is told of the stages of `build_index`.
            is_centered: subtract each corpus's mean embedding: the training-free control.
        """
        self.encoder = encoder
        self._directory = directory
        self._on_progress = on_progress
        self._is_centered = is_centered

    def open(self, evaluation_set: EvaluationSet, language: str) -> Searcher:
        """Open the index of a corpus, built where it is not there yet.

        Raises:
            RetrievalError: a passage is bad, or the index cannot be built.
        """
        corpus = evaluation_set.corpus_path(language)
        index = self._directory / self._key(corpus)
        try:
            generation = open_current(index)
        except GenerationError:
            stage = f"encode {evaluation_set.name} {language}"

            def on_progress(name: str, done: int, total: int | None) -> None:
                if name == "encode":
                    self._on_progress(stage, done, total)

            build_index(read_passages(corpus), index, self.encoder, on_progress=on_progress)
            generation = open_current(index)
        if self._is_centered:
            generation = _centered(generation, index)
        # On the CPU whatever the encoder's device: there, search is exact in fp32.
        return Searcher(self.encoder, generation)

    def _key(self, corpus: Path) -> str:
        encoder = self.encoder
        facts = [
            sha256_of(corpus),
            encoder.passage_fingerprint,
            encoder.max_tokens,
            encoder.runtime.name,
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:KEY_CHARACTERS]


def rank(searcher: Searcher, embeddings: Embeddings, top_k: int) -> list[Ranked]:
    """Find each query's best passages, [B, D] in, ids and scores out."""
    table = searcher.generation.passages
    return [
        dict(zip(table.passage_ids(found.rows.tolist()), found.scores.tolist(), strict=True))
        for found in searcher.rank(embeddings, top_k)
    ]


def merge(pools: Mapping[str, Sequence[Ranked]], top_k: int) -> list[Ranked]:
    """Merge rankings of corpora, by language, as if all passages lay in one index.

    Returns:
        One ranking a query; an id is `<passage id>@<language>`.
    """
    merged = []
    for ranked in zip(*pools.values(), strict=True):
        hits = [
            (f"{passage_id}@{language}", score)
            for language, passages in zip(pools, ranked, strict=True)
            for passage_id, score in passages.items()
        ]
        merged.append(dict(sorted(hits, key=lambda hit: -hit[1])[:top_k]))
    return merged


def center(embeddings: Embeddings) -> Embeddings:
    """Subtract the mean embedding, [N, D], and make the rest unit-norm again.

    Source: the language component of multilingual embeddings, Yang et al. 2021 (arXiv 2109.04727).
    """
    rest = embeddings - embeddings.mean(axis=0)
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(rest / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _centered(generation: Generation, index: Path) -> Generation:
    with flat_vectors(generations_directory(index) / current_name(index) / VECTORS) as vectors:
        return replace(generation, vectors=TorchFlatIndex(center(vectors), torch.device("cpu")))
