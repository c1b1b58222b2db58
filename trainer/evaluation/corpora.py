"""Indexes of the corpora of evaluation sets, built as the service builds them, and kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from service.retrieval.corpus.chunking import Chunking
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
from service.retrieval.indexing.build import build_index
from service.retrieval.progress import OnProgress
from service.retrieval.searcher import Searcher
from service.retrieval.storage.checksums import sha256_of
from trainer.data.evaluation_set import EvaluationSet

KEY_CHARACTERS = 32
# Passage id -> score, best first.
Ranked = dict[str, float]


class Corpora:
    """The indexes of corpora for one encoder; equal corpora are encoded once.

    The name of an index is the hash of its passages and of everything that determines their
    embeddings. Query encoders with the same passage encoder therefore share an index.
    """

    def __init__(
        self, encoder: Encoder, directory: Path, on_progress: OnProgress, *, is_centered: bool
    ) -> None:
        """Keep the indexes in a folder.

        Args:
            encoder: encodes passages and queries.
            directory: created if missing.
            on_progress: called with the stages of `build_index`.
            is_centered: subtract the mean embedding of each corpus: the training-free control.
        """
        self.encoder = encoder
        self._directory = directory
        self._on_progress = on_progress
        self._is_centered = is_centered

    def open(self, evaluation_set: EvaluationSet, language: str) -> Searcher:
        """Open the index of a corpus; build it if it is missing.

        Raises:
            RetrievalError: a passage is invalid, or the index cannot be built.
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

            build_index(
                read_passages(corpus),
                index,
                self.encoder,
                chunking=Chunking.none(self.encoder.side("passage").max_tokens),
                on_progress=on_progress,
            )
            generation = open_current(index)
        if self._is_centered:
            generation = _centered(generation, index)
        # Search runs on the CPU, where it is exact in fp32, even if the encoder is on a GPU.
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
    """Return each query's best passages.

    Args:
        searcher: of one corpus.
        embeddings: of the queries, [B, D].
        top_k: passages per query.
    """
    table = searcher.generation.passages
    return [
        dict(zip(table.passage_ids(found.rows.tolist()), found.scores.tolist(), strict=True))
        for found in searcher.rank(embeddings, top_k)
    ]


def merge(pools: Mapping[str, Sequence[Ranked]], top_k: int) -> list[Ranked]:
    """Merge the rankings of several corpora, as if all passages were in one index.

    Args:
        pools: language -> a ranking per query.
        top_k: passages per query.

    Returns:
        One ranking per query; a passage id is `<passage id>@<language>`.
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
    """Subtract the mean of embeddings, [N, D], and normalize the result to unit length.

    Source: the language component of multilingual embeddings, Yang et al. 2021 (arXiv 2109.04727).
    """
    rest = embeddings - embeddings.mean(axis=0)
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(rest / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _centered(generation: Generation, index: Path) -> Generation:
    with flat_vectors(generations_directory(index) / current_name(index) / VECTORS) as vectors:
        return replace(generation, vectors=TorchFlatIndex(center(vectors), torch.device("cpu")))
