"""The file of a generation that holds the vectors of its passages' segments, in int8.

Row i belongs to passage i. A passage of one segment has none here: nothing in it stands out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.retrieval.errors import GenerationError
from service.retrieval.evidence.segments import Span
from service.retrieval.storage.arrow_files import Values, map_rows

EVIDENCE = "evidence.arrow"
# `key` stands for all that the other two depend on, besides the encoder.
SCHEMA = pa.schema(
    [
        ("evidence.key", pa.binary(16)),
        ("evidence.spans", pa.binary()),  # int32 [S, 2]
        ("evidence.vectors", pa.binary()),  # int8 [S, D], each of any length
    ]
)
SPAN_BYTES = 8
LARGEST = 127
WINDOW_ROWS = 1 << 16
# A segment beside the best one whose score is this near answers in its place, or with it, so often
# that both are shown (bench/evidence.py).
NEAR = 0.02
# Where they lead all others by less, they are right about every second time (bench/evidence.py).
LEAST_LEAD = 0.004


@dataclass(frozen=True, slots=True)
class Evidence:
    """The part of a passage's text that answers a query best, and its best segment's cosine."""

    start: int
    end: int
    score: float

    def as_dict(self) -> dict[str, object]:
        """Return it as in the response of `/search`."""
        return {"start": self.start, "end": self.end, "score": self.score}


class EvidenceTable:
    """The vectors of segments by passage, mapped from the file."""

    def __init__(self, path: Path, count: int, dimension: int) -> None:
        """Map the file, whose hash must have been verified, and check its form.

        Args:
            path: of the file.
            count: of the passages.
            dimension: of a vector, D.

        Raises:
            GenerationError: the file is not an Arrow file of `count` rows of this form.
        """
        self.rows: pa.Table = map_rows(path)
        if self.rows.schema != SCHEMA or len(self.rows) != count:
            raise GenerationError(
                f"{path} does not hold the evidence of {count} passages: build the index again"
            )
        if fault := find_fault(self.rows, dimension):
            raise GenerationError(f"{path} is damaged, {fault}: build the index again")
        _, spans, vectors = self.rows.columns
        self._spans, self._vectors = Values(spans), Values(vectors)

    def rows_by_key(self) -> dict[bytes, int]:
        """Return the rows by their keys."""
        return {key: row for row, key in enumerate(self.rows["evidence.key"].to_pylist())}

    def vectors(self, row: int) -> NDArray[np.int8]:
        """Return the vectors of a row's segments, one after another."""
        return np.frombuffer(self._vectors[row], np.int8)

    def find(self, rows: Sequence[int], query: NDArray[np.float32]) -> list[Evidence | None]:
        """Return the evidence of passages for a query [D]; None where no segment stands out.

        Args:
            rows: of the passages.
            query: unit-norm.
        """
        content = b"".join([self._vectors[row] for row in rows])
        vectors = np.frombuffer(content, np.int8).reshape(-1, len(query))
        scores: list[float] = cosines(vectors, query).tolist()
        found: list[Evidence | None] = []
        first = 0
        for row in rows:
            places = self._spans[row].cast("i")
            last = first + len(places) // 2
            found.append(best_of(scores[first:last], places))
            first = last
        return found


def find_fault(rows: pa.Table, dimension: int) -> str:
    """Return what of a table's content is not evidence, with its row; an empty string if all is."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        return str(error)
    _, spans, vectors = rows.columns
    if any(column.null_count for column in rows.columns):
        return "it lacks values"
    span_bytes, vector_bytes = (pc.binary_length(each).to_numpy() for each in (spans, vectors))
    counts = span_bytes // SPAN_BYTES
    wrong = (span_bytes % SPAN_BYTES != 0) | (vector_bytes != counts * dimension)
    if wrong.any():
        row = int(wrong.argmax())
        return (
            f"row {row} has {span_bytes[row]} bytes of spans and {vector_bytes[row]} of vectors "
            f"of {dimension}"
        )
    for start in range(0, len(rows), WINDOW_ROWS):
        content = b"".join(spans.slice(start, WINDOW_ROWS).to_pylist())
        places = np.frombuffer(content, np.int32).reshape(-1, 2)
        is_none = (places[:, 0] < 0) | (places[:, 0] > places[:, 1])
        if is_none.any():
            first = int(is_none.argmax())
            ends = counts[start : start + WINDOW_ROWS].cumsum()
            row = start + int(np.searchsorted(ends, first, "right"))
            return f"row {row} has a span from {places[first, 0]} to {places[first, 1]}"
    return ""


def describe_evidence(table: EvidenceTable | None) -> dict[str, object]:
    """Return whether an index has evidence, and else the reason, as `/info` states them."""
    reason = None if table else "the index was built without: run `index build --evidence`"
    return {"available": table is not None, "reason": reason}


def best_of(scores: Sequence[float], places: Sequence[int]) -> Evidence | None:
    """Return the segments that answer best; None if they lead by less than `LEAST_LEAD`.

    Args:
        scores: of the segments, S of them.
        places: where each starts and ends, [2 S].
    """
    if len(scores) < 2:
        return None
    first, last = answering(scores)
    best = max(scores[first : last + 1])
    if best - max([*scores[:first], *scores[last + 1 :]]) < LEAST_LEAD:
        return None
    return Evidence(places[2 * first], places[2 * last + 1], best)


def answering(scores: Sequence[float]) -> tuple[int, int]:
    """Return the first and the last of the segments that answer best: one, or two side by side.

    Of two segments only one is taken: both are the whole passage.

    >>> answering([0.80, 0.84, 0.83])
    (1, 2)
    """
    best = scores.index(max(scores))
    before = scores[best - 1] if best else -math.inf
    after = scores[best + 1] if best + 1 < len(scores) else -math.inf
    if len(scores) == 2 or scores[best] - max(before, after) >= NEAR:
        return best, best
    return (best - 1, best) if before >= after else (best, best + 1)


def quantized(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return the directions of vectors, [S, D], in int8; one without a direction becomes zeros.

    >>> quantized(np.array([[0.5, -0.25], [np.nan, 0.0]], np.float32)).tolist()
    [[127, -64], [0, 0]]
    """
    finite = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0)
    largest = np.maximum(np.abs(finite).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    rounded: NDArray[np.int8] = np.rint(finite / largest * LARGEST).astype(np.int8)
    return rounded


def directions(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the unit vectors of `quantized` ones, [S, D]; zeros stay zeros."""
    found = vectors.astype(np.float32)
    found /= _lengths(found)[:, None]
    return found


def cosines(vectors: NDArray[np.int8], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner products of `quantized` vectors' directions, [S, D], with a query, [D]."""
    found = vectors.astype(np.float32)
    scores: NDArray[np.float32] = found @ query
    scores /= _lengths(found)
    return scores


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lengths of vectors of whole numbers, [S, D]; 1 of zeros."""
    # the squares are whole numbers, exact to 1,040 dimensions
    found: NDArray[np.float32] = np.sqrt(np.maximum(1, np.vecdot(vectors, vectors)))
    return found


def to_columns(
    keys: Sequence[bytes],
    spans: Sequence[Sequence[Span]],
    vectors: Sequence[NDArray[np.int8]],
) -> pa.Table:
    """Return the evidence of passages as rows of the table."""
    places = [np.array(each, np.int32).tobytes() for each in spans]
    columns = [list(keys), places, [each.tobytes() for each in vectors]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)
