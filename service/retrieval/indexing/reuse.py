"""Reuse of a generation's embeddings for passages whose text did not change.

`texts.arrow` holds the digest of each row's text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.retrieval.corpus.table import FIELD_PREFIX, PassageTable, with_chunk_columns
from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.errors import GenerationError
from service.retrieval.evidence.table import EvidenceTable
from service.retrieval.generation.manifest import (
    MANIFEST,
    PASSAGES,
    TEXTS,
    GenerationManifest,
)
from service.retrieval.generation.vectors import open_vectors_of
from service.retrieval.identifiers.postings import KeptPostings, Postings, places_of
from service.retrieval.indexing.rows import Rows, Splice, beside
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.storage.arrow_files import map_rows
from service.retrieval.unit_vectors import are_unit

NOT_FOUND = -1


class ReusableEmbeddings:
    """The embeddings of a verified generation, found by the digest of their text."""

    def __init__(
        self, embeddings: Embeddings, digests: NDArray[np.void], is_truncated: NDArray[np.bool_]
    ) -> None:
        """Index the embeddings [N, D] by their digests [N]; those that are no unit vectors, not."""
        self._embeddings = embeddings
        self._is_truncated = is_truncated
        self._digests = digests
        self._halves = digests.view(np.uint64).reshape(-1, 2)
        order = np.argsort(self._halves[:, 0], kind="stable")
        self._order = order[are_unit(embeddings)[order]]
        self._sorted = self._halves[self._order, 0]

    def find(self, digests: NDArray[np.void]) -> NDArray[np.int64]:
        """Return the row of each digest, [M]; `NOT_FOUND` where there is none."""
        if len(self._sorted) == 0:
            return np.full(len(digests), NOT_FOUND)
        wanted = digests.view(np.uint64).reshape(-1, 2)
        places = np.minimum(np.searchsorted(self._sorted, wanted[:, 0]), len(self._sorted) - 1)
        rows = self._order[places]
        # Of two digests with equal first halves only one is found; the other text is encoded again.
        return np.where((self._halves[rows] == wanted).all(axis=1), rows, NOT_FOUND)

    def rows(self, passages: pa.Table) -> Rows:
        """Return all embeddings as the rows of the generation, with the columns of its passages."""
        return Rows(passages, self._embeddings, self._is_truncated, self._digests)

    def read(self, rows: NDArray[np.int64]) -> EncodedPassages:
        """Return the embeddings of rows, in the order given."""
        return EncodedPassages(self._embeddings[rows], self._is_truncated[rows])


@dataclass(frozen=True)
class Base:
    """What a run adds to and takes from: a verified generation; for a build, nothing.

    `reusable` holds embeddings for new passages with a known text, and those of `table`, if given;
    `evidence` likewise holds the vectors of their segments. `postings` are the identifiers of
    `table`; an older generation has none.
    """

    reusable: ReusableEmbeddings | None = None
    table: PassageTable | None = None
    evidence: EvidenceTable | None = None
    postings: Postings | None = None

    @property
    def known_evidence(self) -> EvidenceTable | None:
        """Return evidence by which vectors of equal segments are found.

        Where rows are kept, nothing is looked up: what changed is little, and is encoded.
        """
        return self.evidence if self.table is None else None

    def splice(
        self, staged: StagedPassages, columns: pa.Schema, embedding_dim: int
    ) -> tuple[Rows, Splice]:
        """Return the rows that are kept, and how the staged passages go among them."""
        if self.table is None or self.reusable is None:
            nothing = np.zeros(len(staged), np.int64)
            none = Rows.none(columns, embedding_dim)
            return none, Splice(nothing, nothing > 0, np.empty(0, np.bool_))
        rows = with_chunk_columns(self.table.rows)
        if self.evidence is not None:
            rows = beside(rows, self.evidence.rows)
        kept = self.reusable.rows(rows)
        new_ids = list(staged.passage_ids())
        return kept, Splice.of(self.table, new_ids, staged.touched, staged.origin_of)

    def kept_postings(self, splice: Splice) -> KeptPostings | None:
        """Return the identifiers of the rows that a splice keeps."""
        if self.postings is None:
            return None
        return KeptPostings(self.postings, places_of(splice.places, splice.is_kept))


@contextmanager
def open_reusable(
    directory: Path, manifest: GenerationManifest, identity: EncoderIdentity
) -> Iterator[ReusableEmbeddings]:
    """Yield the embeddings of a verified generation; none if they have another identity.

    Raises:
        GenerationError: a file cannot be read, or the manifest does not say what embedded it.
    """
    dimension = manifest.dimension
    if identity_of(directory, manifest) != identity:
        yield ReusableEmbeddings(
            np.empty((0, dimension), np.float32), np.empty(0, "V16"), np.empty(0, np.bool_)
        )
        return
    texts = map_rows(directory / TEXTS)
    digests = np.frombuffer(b"".join(texts["digest"].to_pylist()), "V16")
    is_truncated = texts["is_truncated"].to_numpy()
    with open_vectors_of(directory, manifest) as vectors:
        yield ReusableEmbeddings(vectors, digests, is_truncated)


def truncated_ids(directory: Path, most: int) -> list[str]:
    """Return the ids of the first passages of a generation that the encoder read only in part."""
    texts, passages = map_rows(directory / TEXTS), map_rows(directory / PASSAGES)
    rows = np.flatnonzero(texts["is_truncated"].to_numpy())[:most]
    return [passages["passage_id"][row].as_py() for row in rows.tolist()]


def count_removed(before: Path, after: Path) -> int:
    """Return how many passages of a verified generation have an id that another one lacks."""
    ids = [map_rows(directory / PASSAGES)["passage_id"] for directory in (before, after)]
    is_kept = pc.is_in(ids[0], value_set=ids[1].combine_chunks())
    return len(is_kept) - int(pc.sum(is_kept).as_py() or 0)


def empty_fields(directory: Path, manifest: GenerationManifest) -> list[str]:
    """Return the declared fields that no passage of a generation has."""
    passages = map_rows(directory / PASSAGES)
    columns = {name: passages[FIELD_PREFIX + name] for name in manifest.fields}
    return [name for name, column in columns.items() if column.null_count == len(column)]


def identity_of(directory: Path, manifest: GenerationManifest) -> EncoderIdentity:
    """Return what embedded a generation, as its manifest says.

    Raises:
        GenerationError: the manifest does not say it.
    """
    encoder = manifest.encoder
    if encoder.max_tokens is None or encoder.runtime is None:
        name = "max_tokens" if encoder.max_tokens is None else "runtime"
        raise GenerationError(
            f"{directory / MANIFEST}: `encoder.{name}` is missing, without which no embedding can "
            "be reused: build the index again with `clear-service index build`"
        )
    return EncoderIdentity(encoder.fingerprint, encoder.max_tokens, encoder.runtime)


def merge_embeddings(
    rows: NDArray[np.int64],
    former: ReusableEmbeddings | None,
    fresh: Iterator[EncodedPassages],
    window_rows: int,
) -> Iterator[EncodedPassages]:
    """Yield all embeddings in windows: reused ones by row, new ones in the order of passages.

    Args:
        rows: each passage's row in `former`, [N]; `NOT_FOUND` where its embedding is new.
        former: the embeddings to reuse.
        fresh: the new embeddings in order, in pieces of any length.
        window_rows: number of passages per window.
    """
    left: EncodedPassages | None = None
    for start in range(0, len(rows), window_rows):
        window = rows[start : start + window_rows]
        is_new = window == NOT_FOUND
        num_new = int(is_new.sum())
        while num_new > (len(left) if left else 0):
            left = left + next(fresh) if left else next(fresh)
        taken = left[:num_new] if left and num_new else None
        left = left[num_new:] if left else None
        if former is None or num_new == len(window):
            assert taken is not None
            yield taken
            continue
        found = former.read(window)
        if taken is not None:
            found.embeddings[is_new] = taken.embeddings
            found.is_truncated[is_new] = taken.is_truncated
        yield found
