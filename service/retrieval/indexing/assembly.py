"""One build in its temporary folder: stage, encode, index, check, write the manifest."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.fields import Fields, checked_values
from service.retrieval.corpus.reader import OnInvalid, Passage, no_passages
from service.retrieval.corpus.table import PassageTableWriter
from service.retrieval.encoder.bulk import EncodedPassages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import PassageError
from service.retrieval.generation.manifest import EMBEDDINGS, MANIFEST, PASSAGES, TEXTS, VECTORS
from service.retrieval.index.faiss.build import build_faiss_index, check_factory
from service.retrieval.indexing.invalid import InvalidPassages
from service.retrieval.indexing.manifest import add_canaries, describe_build
from service.retrieval.indexing.reuse import (
    NOT_FOUND,
    ReusableEmbeddings,
    merge_embeddings,
    write_texts,
)
from service.retrieval.indexing.shards import Shard, ShardEncoder, ShardFolder, shard_name
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.progress import OnProgress

WINDOW_PASSAGES = 1024
# Large enough that most batches are full, though a batch holds texts of similar length.
SHARD_PASSAGES = 4096
NUM_CANARIES = 8


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
        shard_encoder: ShardEncoder,
        on_progress: OnProgress,
    ) -> None:
        """Check the settings; nothing is built yet.

        Args:
            encoder: encodes the canary queries.
            factory: FAISS's description of the index.
            fields: metadata that hits can be filtered and counted by.
            shard_encoder: embeds the passages.
            on_progress: called during the stages read, encode, index, check.

        Raises:
            GenerationError: FAISS has no such index, or cannot filter it.
        """
        check_factory(factory, encoder.embedding_dim, bool(fields), str(encoder.device))
        self._encoder = encoder
        self._factory = factory
        self._fields = dict(sorted(fields.items()))  # in the manifest's order
        self._shard_encoder = shard_encoder
        self._on_progress = on_progress

    def run(
        self,
        directory: Path,
        unfinished: Path,
        passages: Iterable[tuple[str, Passage]],
        reusable: ReusableEmbeddings | None,
        on_invalid: OnInvalid,
    ) -> BuildCounts:
        """Build the generation.

        Args:
            directory: an empty folder.
            unfinished: the folder of encoded shards, kept if the run is interrupted.
            passages: each with its origin.
            reusable: embeddings of an older generation.
            on_invalid: called with the error of a passage that cannot be indexed.

        Raises:
            PassageError, GenerationError: as in `build_index`.
            OSError: the disk fails or is full.
        """
        staging, raw = directory / "staging.sqlite", directory / EMBEDDINGS
        with StagedPassages(staging, self._encoder.side("passage").prepare) as staged:
            self._stage(staged, passages, on_invalid)
            digests = staged.digests()
            rows = reusable.find(digests) if reusable else np.full(len(staged), NOT_FOUND)
            shards = ShardFolder(unfinished, self._encoder.embedding_dim)
            invalid = InvalidPassages(staged, self._encoder.name, on_invalid)
            names, num_encoded = self._encode(staged, digests, rows, shards, invalid)
            is_valid = invalid.remove()
            digests, rows, count = digests[is_valid], rows[is_valid], len(staged)
            fresh = (encoded[encoded.is_valid] for encoded in map(shards.read, names))
            embeddings = merge_embeddings(rows, reusable, fresh, WINDOW_PASSAGES)
            is_truncated = self._write(directory, staged, embeddings)
            canary_passages = staged.sample(NUM_CANARIES)
        write_texts(directory / TEXTS, digests, is_truncated)
        vectors = np.memmap(raw, np.float32, "r", shape=(count, self._encoder.embedding_dim))
        self._index(vectors, directory / VECTORS)
        del vectors
        staging.unlink()
        if self._factory == "Flat":  # whose file holds the same embeddings
            raw.unlink()
        num_reused = int((rows != NOT_FOUND).sum())
        num_unembedded = len(is_valid) - count
        counts = BuildCounts(
            count, int(is_truncated.sum()), num_reused, num_encoded, num_unembedded
        )
        self._check(directory, counts, canary_passages)
        return counts

    def _stage(
        self,
        staged: StagedPassages,
        passages: Iterable[tuple[str, Passage]],
        on_invalid: OnInvalid,
    ) -> None:
        for origin, passage in passages:
            try:
                values = checked_values(origin, passage.metadata, self._fields)
                found = {name: value for name, value in values.items() if value is not None}
                staged.add(origin, replace(passage, metadata={**passage.metadata, **found}))
            except PassageError as error:
                on_invalid(error)
            if len(staged) % WINDOW_PASSAGES == 0:
                self._on_progress("read", len(staged), None)
        self._on_progress("read", len(staged), len(staged))
        if len(staged) == 0:
            raise no_passages()

    def _encode(
        self,
        staged: StagedPassages,
        digests: NDArray[np.void],
        rows: NDArray[np.int64],
        shards: ShardFolder,
        invalid: InvalidPassages,
    ) -> tuple[list[str], int]:
        """Encode the missing shards; return the names of all shards, and the number encoded."""
        missing = np.flatnonzero(rows == NOT_FOUND)
        total = len(missing)
        done = num_encoded = 0
        names: list[str] = []
        parts: dict[str, list[NDArray[np.int64]]] = defaultdict(list)  # positions by shard

        def on_texts(num_texts: int) -> None:
            nonlocal done
            done += num_texts
            self._on_progress("encode", done, total)

        def missing_shards() -> Iterator[Shard]:
            texts = staged.encoder_texts(missing)
            for start in range(0, total, SHARD_PASSAGES):
                part = missing[start : start + SHARD_PASSAGES]
                name = shard_name(self._shard_encoder.identity, digests[part].tobytes())
                names.append(name)
                parts[name].append(part)  # views of `missing`
                shard = Shard(name, [next(texts) for _ in part])
                if shards.has(name):
                    on_texts(len(part))
                else:
                    yield shard

        self._on_progress("encode", 0, total)
        for name, encoded in self._shard_encoder.encode(missing_shards(), on_texts):
            shards.save(name, encoded)
            is_valid = encoded.is_valid
            num_encoded += int(is_valid.sum())
            if not is_valid.all():
                for part in parts[name]:
                    invalid.add(part[~is_valid])
        return names, num_encoded

    def _write(
        self, directory: Path, staged: StagedPassages, embeddings: Iterator[EncodedPassages]
    ) -> NDArray[np.bool_]:
        """Write passages and embeddings in the order of ids; return which texts were truncated."""
        flags = []
        with (
            PassageTableWriter(directory / PASSAGES, self._fields) as table,
            (directory / EMBEDDINGS).open("wb") as vectors,
        ):
            for passages, encoded in zip(staged.windows(WINDOW_PASSAGES), embeddings, strict=True):
                table.write(passages)
                vectors.write(encoded.embeddings.tobytes())
                flags.append(encoded.is_truncated)
        return np.concatenate(flags)

    def _index(self, vectors: Embeddings, path: Path) -> None:
        done = 0

        def on_rows(num_rows: int) -> None:
            nonlocal done
            done += num_rows
            self._on_progress("index", done, len(vectors))

        build_faiss_index(vectors, self._factory, path, on_rows, str(self._encoder.device))

    def _check(self, directory: Path, counts: BuildCounts, canary_passages: list[Passage]) -> None:
        """Search the generation as a reader does, and write the manifest."""
        self._on_progress("check", 0, 1)
        manifest = describe_build(
            directory,
            self._encoder,
            self._shard_encoder.identity,
            self._factory,
            self._fields,
            counts.num_passages,
            counts.num_truncated,
            counts.num_unembedded,
        )
        manifest = add_canaries(manifest, directory, self._encoder, canary_passages)
        (directory / MANIFEST).write_bytes(manifest.to_bytes())
        self._on_progress("check", 1, 1)
