"""One build in its temporary folder: stage, encode, index, check, write the manifest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.corpus.chunking import Chunker, Chunking
from service.retrieval.corpus.fields import Fields
from service.retrieval.corpus.reader import OnInvalid, no_document_left, no_passages
from service.retrieval.corpus.table import (
    PassageTable,
    PassageTableWriter,
    any_chunk,
    to_rows,
    with_chunk_columns,
)
from service.retrieval.encoder.bulk import EncodedPassages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.manifest import EMBEDDINGS, MANIFEST, PASSAGES, TEXTS, VECTORS
from service.retrieval.index.faiss.build import build_faiss_index, check_factory, write_flat_header
from service.retrieval.indexing.encoding import encode_missing
from service.retrieval.indexing.invalid import InvalidPassages
from service.retrieval.indexing.manifest import add_findings, describe_build
from service.retrieval.indexing.reuse import (
    NOT_FOUND,
    ReusableEmbeddings,
    merge_embeddings,
    write_texts,
)
from service.retrieval.indexing.rows import WINDOW_ROWS, Rows, Splice, table_windows
from service.retrieval.indexing.shards import ShardEncoder, ShardFolder
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.progress import OnProgress

NUM_CANARIES = 8
# Fills the staging with a run's passages.
Stage = Callable[[StagedPassages], None]


@dataclass(frozen=True)
class BuildCounts:
    """Numbers of passages that a build indexed, truncated, reused, encoded, and left out."""

    num_passages: int
    num_truncated: int
    num_reused: int
    num_encoded: int  # by this run; neither reused nor encoded by an interrupted run
    num_unembedded: int  # left out, as the encoder gives no unit vector for them


@dataclass(frozen=True)
class Base:
    """What a run adds to and takes from: a verified generation; for a build, nothing.

    `reusable` holds embeddings for new passages with a known text, and those of `table`, if given.
    """

    reusable: ReusableEmbeddings | None = None
    table: PassageTable | None = None


class Assembly:
    """Builds a generation from passages."""

    def __init__(
        self,
        encoder: Encoder,
        factory: str,
        fields: Fields,
        chunking: Chunking,
        shard_encoder: ShardEncoder,
        on_progress: OnProgress,
    ) -> None:
        """Check the settings; nothing is built yet.

        Args:
            encoder: encodes the canary queries.
            factory: FAISS's description of the index.
            fields: metadata that hits can be filtered and counted by.
            chunking: how long documents are split.
            shard_encoder: embeds the passages.
            on_progress: called during the stages read, encode, index, check.

        Raises:
            GenerationError: FAISS has no such index, or cannot filter it.
        """
        check_factory(factory, encoder.embedding_dim, bool(fields), str(encoder.device))
        self.fields = dict(sorted(fields.items()))  # in the manifest's order
        self.chunker = Chunker(chunking, encoder.count_passage_tokens)
        self.on_progress = on_progress
        self._encoder = encoder
        self._factory = factory
        self._shard_encoder = shard_encoder

    def run(
        self, directory: Path, unfinished: Path, stage: Stage, base: Base, on_invalid: OnInvalid
    ) -> BuildCounts:
        """Build the generation.

        Args:
            directory: an empty folder.
            unfinished: the folder of encoded shards, kept if the run is interrupted.
            stage: adds the new passages.
            base: rows that are kept where they are neither replaced nor deleted.
            on_invalid: called with the error of a passage that cannot be indexed.

        Raises:
            PassageError, GenerationError: as in `build_index`.
            OSError: the disk fails or is full.
        """
        staging = directory / "staging.sqlite"
        with StagedPassages(staging, self._encoder.side("passage").prepare) as staged:
            stage(staged)
            digests = staged.digests()
            reusable = base.reusable
            rows = reusable.find(digests) if reusable else np.full(len(staged), NOT_FOUND)
            shards = ShardFolder(unfinished, self._encoder.embedding_dim)
            invalid = InvalidPassages(staged, self._encoder.name, on_invalid)
            missing = np.flatnonzero(rows == NOT_FOUND)
            encoded = encode_missing(
                *(staged, digests, missing, self._shard_encoder, shards, invalid),
                self.on_progress,
            )
            is_valid = invalid.remove()
            digests, rows = digests[is_valid], rows[is_valid]
            fresh = (found[found.is_valid] for found in map(shards.read, encoded.names))
            embeddings = merge_embeddings(rows, reusable, fresh, WINDOW_ROWS)
            kept, splice = self._splice(staged, base)
            count = len(staged) + int(splice.is_kept.sum())
            if count == 0:
                raise no_passages() if base.table is None else no_document_left()
            new = self._new_rows(staged, digests, embeddings)
            has_chunks = staged.holds_chunks() or any_chunk(kept.passages, splice.is_kept)
            is_truncated = self._write(directory, splice.merge(kept, new), count, has_chunks)
        staging.unlink()
        self._index(directory, count)
        counts = BuildCounts(
            count,
            int(is_truncated.sum()),
            count - len(staged) + int((rows != NOT_FOUND).sum()),
            encoded.num_encoded,
            len(is_valid) - len(staged),
        )
        self._check(directory, counts)
        return counts

    def _splice(self, staged: StagedPassages, base: Base) -> tuple[Rows, Splice]:
        """Return the rows of the base, and how the staged passages go among them."""
        if base.table is None or base.reusable is None:
            nothing = np.zeros(len(staged), np.int64)
            kept = Rows.none(self.fields, self._encoder.embedding_dim)
            return kept, Splice(nothing, nothing > 0, np.empty(0, np.bool_))
        kept = base.reusable.rows(with_chunk_columns(base.table.rows))
        return kept, Splice.of(base.table, list(staged.passage_ids()), staged.touched)

    def _new_rows(
        self,
        staged: StagedPassages,
        digests: NDArray[np.void],
        embeddings: Iterator[EncodedPassages],
    ) -> Iterator[Rows]:
        """Yield the staged passages and their embeddings in windows, in the order of ids."""
        start = 0
        for passages, encoded in zip(staged.windows(WINDOW_ROWS), embeddings, strict=True):
            stop = start + len(passages)
            yield Rows(
                to_rows(passages, self.fields),
                encoded.embeddings,
                encoded.is_truncated,
                digests[start:stop],
            )
            start = stop

    def _write(
        self, directory: Path, rows: Iterator[Rows], count: int, has_chunks: bool
    ) -> NDArray[np.bool_]:
        """Write passages, vectors and digests; return which texts were truncated."""
        is_flat = self._factory == "Flat"
        path = directory / (VECTORS if is_flat else EMBEDDINGS)
        flags: list[NDArray[np.bool_]] = []
        digests: list[NDArray[np.void]] = []
        with (
            PassageTableWriter(directory / PASSAGES, self.fields, has_chunks) as table,
            path.open("wb") as vectors,
        ):
            if is_flat:
                write_flat_header(vectors, count, self._encoder.embedding_dim)

            def passages() -> Iterator[pa.Table]:
                for piece in rows:
                    vectors.write(piece.embeddings.data)
                    flags.append(piece.is_truncated)
                    digests.append(piece.digests)
                    yield piece.passages

            for window in table_windows(passages()):
                table.write_rows(window)
        is_truncated = np.concatenate(flags)
        write_texts(directory / TEXTS, np.concatenate(digests), is_truncated)
        return is_truncated

    def _index(self, directory: Path, count: int) -> None:
        """Index the vectors; the file of a flat index is complete as it was written."""
        done = 0

        def on_rows(num_rows: int) -> None:
            nonlocal done
            done += num_rows
            self.on_progress("index", done, count)

        if self._factory == "Flat":
            return on_rows(count)
        shape = (count, self._encoder.embedding_dim)
        vectors = np.memmap(directory / EMBEDDINGS, np.float32, "r", shape=shape)
        device = str(self._encoder.device)
        build_faiss_index(vectors, self._factory, directory / VECTORS, on_rows, device)

    def _check(self, directory: Path, counts: BuildCounts) -> None:
        """Search the generation as a reader does, and write the manifest."""
        self.on_progress("check", 0, 1)
        table = PassageTable(directory / PASSAGES, self.fields)
        manifest = describe_build(
            directory,
            self._encoder,
            self._shard_encoder.identity,
            self._factory,
            self.chunker.chunking,
            table,
            counts.num_truncated,
            counts.num_unembedded,
        )
        sample = table.read(spread_rows(counts.num_passages, NUM_CANARIES))
        manifest = add_findings(manifest, directory, self._encoder, sample)
        (directory / MANIFEST).write_bytes(manifest.to_bytes())
        self.on_progress("check", 1, 1)


def spread_rows(count: int, size: int) -> list[int]:
    """Return up to `size` of `count` rows, evenly spread.

    >>> spread_rows(10, 4)
    [0, 2, 5, 7]
    """
    return sorted({number * count // size for number in range(min(size, count * size))})
