"""One build in its temporary folder: stage, encode, index, check, write the manifest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.corpus.chunks.chunker import Chunker
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.fields import Fields
from service.retrieval.corpus.reader import OnInvalid, no_document_left, no_passages
from service.retrieval.corpus.table import (
    PassageTable,
    PassageTableWriter,
    any_chunk,
    schema_of,
    to_rows,
)
from service.retrieval.encoder.bulk import EncodedPassages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.evidence.table import SCHEMA as EVIDENCE_SCHEMA
from service.retrieval.generation.manifest import (
    EMBEDDINGS,
    EVIDENCE,
    IDENTIFIERS,
    MANIFEST,
    PASSAGES,
    VECTORS,
)
from service.retrieval.identifiers.postings import write_postings
from service.retrieval.index.faiss.build import build_faiss_index, check_factory, write_flat_header
from service.retrieval.indexing.encoding import EncodedSegments, encode_missing
from service.retrieval.indexing.invalid import InvalidPassages
from service.retrieval.indexing.manifest import add_findings, describe_build
from service.retrieval.indexing.reuse import (
    NOT_FOUND,
    Base,
    merge_embeddings,
)
from service.retrieval.indexing.rows import WINDOW_ROWS, Rows, beside, write_rows
from service.retrieval.indexing.shards import ShardEncoder, ShardFolder
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.progress import OnProgress
from service.retrieval.storage.arrow_files import ArrowWriter

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
        has_evidence: bool = False,
        deduplicate: bool = False,
    ) -> None:
        """Check the settings; nothing is built yet.

        Args:
            encoder: encodes the canary queries.
            factory: FAISS's description of the index.
            fields: metadata that hits can be filtered and counted by.
            chunking: how long documents are split.
            shard_encoder: embeds the passages.
            on_progress: called during the stages read, encode, evidence, index, check.
            has_evidence: whether to embed the segments of passages, too.
            deduplicate: whether searches fold documents with equal texts.

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
        self._has_evidence = has_evidence
        self._deduplicate = deduplicate

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
            kept, splice = base.splice(staged, self._columns(), self._encoder.embedding_dim)
            count = len(staged) + int(splice.is_kept.sum())
            if count == 0:
                raise no_passages() if base.table is None else no_document_left()
            evidence = None
            if self._has_evidence:
                evidence = EncodedSegments(staged, shards, base.known_evidence)
                evidence.encode(self._shard_encoder, self.on_progress)
            new = self._new_rows(staged, digests, embeddings, evidence)
            has_chunks = staged.holds_chunks() or any_chunk(kept.passages, splice.is_kept)
            is_truncated = self._write(directory, splice.merge(kept, new), count, has_chunks)
        staging.unlink()
        table = PassageTable(directory / PASSAGES, self.fields)
        write_postings(directory / IDENTIFIERS, table, base.kept_postings(splice))
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

    def _columns(self) -> pa.Schema:
        """Return the columns of rows: of passages, and of their evidence."""
        schema = schema_of(self.fields, has_chunks=True)
        return pa.schema([*schema, *(EVIDENCE_SCHEMA if self._has_evidence else [])])

    def _new_rows(
        self,
        staged: StagedPassages,
        digests: NDArray[np.void],
        embeddings: Iterator[EncodedPassages],
        evidence: EncodedSegments | None,
    ) -> Iterator[Rows]:
        """Yield the staged passages and their embeddings in windows, in the order of ids."""
        start = 0
        for passages, encoded in zip(staged.windows(WINDOW_ROWS), embeddings, strict=True):
            stop = start + len(passages)
            columns = to_rows(passages, self.fields)
            if evidence is not None:
                columns = beside(columns, evidence.columns(passages))
            yield Rows(
                columns,
                encoded.embeddings,
                encoded.is_truncated,
                digests[start:stop],
            )
            start = stop

    def _write(
        self, directory: Path, rows: Iterator[Rows], count: int, has_chunks: bool
    ) -> NDArray[np.bool_]:
        """Write passages, evidence, vectors and digests; return which texts were truncated."""
        is_flat = self._factory == "Flat"
        with ExitStack() as files:
            tables: list[ArrowWriter] = [
                PassageTableWriter(directory / PASSAGES, self.fields, has_chunks)
            ]
            if self._has_evidence:
                tables.append(ArrowWriter(directory / EVIDENCE, EVIDENCE_SCHEMA))
            for table in tables:
                files.enter_context(table)
            path = directory / (VECTORS if is_flat else EMBEDDINGS)
            vectors = files.enter_context(path.open("wb"))
            if is_flat:
                write_flat_header(vectors, count, self._encoder.embedding_dim)
            return write_rows(directory, rows, tables, vectors)

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
            self._deduplicate,
        )
        manifest = add_findings(manifest, directory, self._encoder, table)
        (directory / MANIFEST).write_bytes(manifest.to_bytes())
        self.on_progress("check", 1, 1)
