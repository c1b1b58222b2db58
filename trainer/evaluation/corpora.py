"""Indexes of the corpora of evaluation sets, and embeddings of their queries, made once and kept.

DIRECTORY/<hash of passages and encoder>/     an index, built as the service builds it
DIRECTORY/<hash of language and encoder>.npz  the embeddings of a set's queries by text
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from service.retrieval.corpus.chunks.chunking import Chunking
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
from service.retrieval.storage.artifact import replace_file
from service.retrieval.storage.checksums import sha256_of
from trainer.data.evaluation_set import EvaluationSet

KEY_CHARACTERS = 32
# Passage id -> score, best first.
Ranked = dict[str, float]


class Corpora:
    """The corpora and queries of evaluation sets, encoded by one encoder; equal ones once.

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
            on_progress: called with the stages of encoding.
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
        facts = sha256_of(corpus), self.encoder.passage_fingerprint
        index = self._directory / self._key(*facts)
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

    def encode_queries(self, evaluation_set: EvaluationSet, language: str) -> Embeddings:
        """Return the embeddings of a language's queries, [B, D]; known ones are not encoded again.

        Args:
            evaluation_set: of the queries.
            language: one of the set's.
        """
        texts = [query.text for query in evaluation_set.queries[language]]
        facts = evaluation_set.name, language, self.encoder.fingerprint
        path = self._directory / f"{self._key(*facts)}.npz"
        known = _read_embeddings(path)
        missing = [text for text in dict.fromkeys(texts) if _digest(text) not in known]
        done, stage = len(texts) - len(missing), f"search {evaluation_set.name} {language}"
        self._on_progress(stage, done, len(texts))

        def on_batch(num_texts: int) -> None:
            nonlocal done
            done += num_texts
            self._on_progress(stage, done, len(texts))

        if missing:
            tokenized = self.encoder.tokenize(missing, "query")
            embeddings = self.encoder.encode_tokenized(tokenized, on_batch=on_batch)
            known |= dict(zip(map(_digest, missing), embeddings, strict=True))
            _write_embeddings(path, known)
        return np.stack([known[_digest(text)] for text in texts])

    def _key(self, *facts: str) -> str:
        made_by = [*facts, self.encoder.max_tokens, self.encoder.runtime.name]
        return hashlib.sha256(repr(made_by).encode()).hexdigest()[:KEY_CHARACTERS]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]


def _read_embeddings(path: Path) -> dict[str, Embeddings]:
    """Read embeddings by the digest of their text; a missing or damaged file counts as empty."""
    try:
        with np.load(path) as arrays:
            return dict(zip(arrays["digests"].tolist(), arrays["embeddings"], strict=True))
    except (OSError, ValueError, KeyError, BadZipFile):
        return {}


def _write_embeddings(path: Path, known: Mapping[str, Embeddings]) -> None:
    content = io.BytesIO()
    np.savez(content, digests=list(known), embeddings=np.stack(list(known.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.getvalue())


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
