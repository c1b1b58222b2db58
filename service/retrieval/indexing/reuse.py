"""Reuse of a generation's embeddings for passages whose text did not change.

`texts.arrow` holds the digest of each row's text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.errors import GenerationError
from service.retrieval.generation.manifest import (
    MANIFEST,
    PASSAGES,
    TEXTS,
    GenerationManifest,
)
from service.retrieval.generation.vectors import open_vectors_of
from service.retrieval.indexing.rows import Rows
from service.retrieval.unit_vectors import are_unit

SCHEMA = pa.schema([("digest", pa.binary(16)), ("is_truncated", pa.bool_())])
NOT_FOUND = -1


def write_texts(path: Path, digests: NDArray[np.void], is_truncated: NDArray[np.bool_]) -> None:
    """Write the digest of each row's text, and whether it was truncated, [N] each."""
    digest_column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(digests), [None, pa.py_buffer(digests.tobytes())]
    )
    table = pa.table([digest_column, pa.array(is_truncated)], schema=SCHEMA)
    with pa.ipc.new_file(str(path), SCHEMA) as writer:
        writer.write_table(table)


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
        """Return all embeddings as the rows of the generation, with its passages."""
        return Rows(passages, self._embeddings, self._is_truncated, self._digests)

    def read(self, rows: NDArray[np.int64]) -> EncodedPassages:
        """Return the embeddings of rows, in the order given."""
        return EncodedPassages(self._embeddings[rows], self._is_truncated[rows])


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
    try:
        texts = pa.ipc.open_file(pa.memory_map(str(directory / TEXTS))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise GenerationError(
            f"{directory / TEXTS} is not an Arrow file ({error}): build the index again"
        ) from None
    digests = np.frombuffer(b"".join(texts["digest"].to_pylist()), "V16")
    is_truncated = texts["is_truncated"].to_numpy()
    with open_vectors_of(directory, manifest) as vectors:
        yield ReusableEmbeddings(vectors, digests, is_truncated)


def truncated_ids(directory: Path, most: int) -> list[str]:
    """Return the ids of the first passages of a generation that the encoder read only in part."""
    texts = pa.ipc.open_file(pa.memory_map(str(directory / TEXTS))).read_all()
    passages = pa.ipc.open_file(pa.memory_map(str(directory / PASSAGES))).read_all()
    rows = np.flatnonzero(texts["is_truncated"].to_numpy())[:most]
    return [passages["passage_id"][row].as_py() for row in rows.tolist()]


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
