"""Passages in, a published index generation out; a build that stops early leaves nothing behind."""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from service.retrieval import artifact
from service.retrieval.encoder import Embeddings, Encoder
from service.retrieval.errors import GenerationError, PassageError
from service.retrieval.generation import (
    FORMAT_VERSION,
    MANIFEST,
    PASSAGES,
    VECTORS,
    assemble,
    generations_directory,
    publish,
)
from service.retrieval.index.faiss import VERSION, build_faiss_index
from service.retrieval.passage_table import PassageTableWriter
from service.retrieval.passages import OnInvalid, Passage, refuse
from service.retrieval.searcher import Searcher
from service.retrieval.staging import StagedPassages

BUILDING = ".building-"
WINDOW_PASSAGES = 1024
NUM_CANARIES = 8
CANARY_CHARACTERS = 200

# Stage, how much is done, of how much (None where that is not known yet).
OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build made of its input."""

    directory: Path
    num_passages: int
    num_truncated: int


def build_index(
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    encoder: Encoder,
    *,
    factory: str = "Flat",
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed passages, index them, and make the result the live generation.

    Memory holds one window of passages and the FAISS index, whatever the length of the corpus.

    Args:
        passages: each with its origin, as `read_passages` streams them.
        index: the index folder, made where it is missing.
        encoder: embeds the passages.
        factory: FAISS's description of the index.
        on_invalid: is given the error of a passage that repeats an id.
        on_progress: is told of the stages read, encode, index, check.

    Raises:
        PassageError: a passage is invalid (by default), or there is none.
        GenerationError: the index cannot be built, another build is running, the disk is full.
    """
    generations = generations_directory(index)
    try:
        generations.mkdir(parents=True, exist_ok=True)
        with FileLock(index / ".lock", timeout=0):
            for stale in generations.glob(f"{BUILDING}*"):  # of a killed build: we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            with artifact.temporary_directory(generations, BUILDING) as directory:
                report = _Build(directory, encoder, factory, on_progress).run(passages, on_invalid)
                return BuildReport(publish(directory, index), *report)
    except Timeout:
        raise GenerationError(
            f"another build is writing to {index}: wait until it is done"
        ) from None
    except (OSError, sqlite3.OperationalError) as error:
        raise _disk_error(index, error) from None


class _Build:
    """One build in its temporary folder."""

    def __init__(
        self, directory: Path, encoder: Encoder, factory: str, on_progress: OnProgress
    ) -> None:
        self._directory = directory
        self._encoder = encoder
        self._factory = factory
        self._on_progress = on_progress
        self._num_truncated = 0

    def run(
        self, passages: Iterable[tuple[str, Passage]], on_invalid: OnInvalid
    ) -> tuple[int, int]:
        staging, raw = self._directory / "staging.sqlite", self._directory / "vectors.f32"
        with StagedPassages(staging) as staged:
            self._stage(staged, passages, on_invalid)
            count = len(staged)
            self._encode(staged, raw)
            canary_passages = staged.sample(NUM_CANARIES)
        vectors = np.memmap(raw, np.float32, "r", shape=(count, self._encoder.embedding_dim))
        self._index(vectors)
        del vectors
        staging.unlink()
        raw.unlink()
        self._check(self._manifest(count), canary_passages)
        return count, self._num_truncated

    def _stage(
        self,
        staged: StagedPassages,
        passages: Iterable[tuple[str, Passage]],
        on_invalid: OnInvalid,
    ) -> None:
        for origin, passage in passages:
            try:
                staged.add(origin, passage)
            except PassageError as error:
                on_invalid(error)
            if len(staged) % WINDOW_PASSAGES == 0:
                self._on_progress("read", len(staged), None)
        self._on_progress("read", len(staged), len(staged))
        if len(staged) == 0:
            raise PassageError("there are no passages to index: the file is empty")

    def _encode(self, staged: StagedPassages, raw: Path) -> None:
        done = 0
        with PassageTableWriter(self._directory / PASSAGES) as table, raw.open("wb") as vectors:
            for window in staged.windows(WINDOW_PASSAGES):
                vectors.write(self._embed(window, done, len(staged)).tobytes())
                table.write(window)
                done += len(window)

    def _embed(self, window: list[Passage], done: int, total: int) -> Embeddings:
        tokenized = self._encoder.tokenize([passage.encoder_text for passage in window], "passage")
        self._num_truncated += sum(text.is_truncated for text in tokenized)

        def on_batch(num_texts: int) -> None:
            nonlocal done
            done += num_texts
            self._on_progress("encode", done, total)

        return self._encoder.encode_tokenized(tokenized, on_batch=on_batch)

    def _index(self, vectors: Embeddings) -> None:
        done = 0

        def on_rows(num_rows: int) -> None:
            nonlocal done
            done += num_rows
            self._on_progress("index", done, len(vectors))

        build_faiss_index(vectors, self._factory, self._directory / VECTORS, on_rows)

    def _manifest(self, count: int) -> dict[str, Any]:
        encoder = self._encoder
        # Which query side asked the canary queries, where that is not the passage side.
        asked_by = {"query_fingerprint": encoder.fingerprint} if encoder.has_two_sides else {}
        return {
            "format_version": FORMAT_VERSION,
            "encoder": {
                "name": encoder.name,
                "fingerprint": encoder.passage_fingerprint,
                "max_tokens": encoder.max_tokens,
                **asked_by,
            },
            "count": count,
            "dimension": encoder.embedding_dim,
            "metric": "inner product of unit vectors",
            "backend": "faiss",
            "factory": self._factory,
            "faiss_version": VERSION,
            "num_truncated": self._num_truncated,
            "files": artifact.record_files(self._directory, [VECTORS, PASSAGES]),
        }

    def _check(self, manifest: dict[str, Any], canary_passages: list[Passage]) -> None:
        """Open what was written, as a reader will, and record what it answers."""
        self._on_progress("check", 0, 1)
        generation = assemble(self._directory, manifest)
        searcher = Searcher(self._encoder, generation)
        queries = [passage.encoder_text[:CANARY_CHARACTERS] for passage in canary_passages]
        manifest["canaries"] = [
            {"query": query, "passage_ids": [hit.passage.passage_id for hit in hits]}
            for query, hits in zip(queries, searcher.search(queries, top_k=3), strict=True)
        ]
        (self._directory / MANIFEST).write_bytes(artifact.canonical_json(manifest))
        self._on_progress("check", 1, 1)


def _disk_error(index: Path, error: OSError | sqlite3.Error) -> GenerationError:
    is_full = getattr(error, "errno", None) == errno.ENOSPC or "full" in str(error)
    reason = "the disk is full" if is_full else (getattr(error, "strerror", None) or str(error))
    free_bytes = shutil.disk_usage(index).free if index.is_dir() else 0
    return GenerationError(
        f"the index cannot be written to {index}: {reason} ({free_bytes // 2**20} MiB free); "
        "the live generation is unchanged"
    )
