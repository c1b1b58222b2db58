from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from service.retrieval.errors import GenerationError
from service.retrieval.evidence import table
from service.retrieval.evidence.segments import Span
from service.retrieval.evidence.table import (
    LEAST_LEAD,
    NEAR,
    SCHEMA,
    Evidence,
    EvidenceTable,
    best_of,
    describe_evidence,
    quantized,
    to_columns,
)
from service.retrieval.storage.arrow_files import ArrowWriter

DIM = 32


def unit_vectors(count: int, seed: int = 3) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(path: Path, vectors: list[np.ndarray], spans: list[list[Span]]) -> EvidenceTable:
    keys = [bytes([row]) * 16 for row in range(len(spans))]
    with ArrowWriter(path, SCHEMA) as table:
        table.write_rows(to_columns(keys, spans, [quantized(each) for each in vectors]))
    return EvidenceTable(path, len(spans), DIM)


def test_the_evidence_is_the_segment_of_the_largest_cosine(tmp_path: Path) -> None:
    counts = [3, 0, 5, 2]
    vectors = [unit_vectors(count, count) if count else np.empty((0, DIM)) for count in counts]
    spans = [[(10 * row, 10 * row + 9) for row in range(count)] for count in counts]
    table = write(tmp_path / "evidence.arrow", vectors, spans)
    [query] = unit_vectors(1, 9)

    found = table.find([2, 1, 0, 2], query)

    for row, evidence in zip([2, 1, 0, 2], found, strict=True):
        if counts[row] == 0:
            assert evidence is None
            continue
        cosines = vectors[row] @ query
        best = int(cosines.argmax())
        assert evidence is not None
        assert (evidence.start, evidence.end) == spans[row][best]
        assert evidence.score == pytest.approx(cosines[best], abs=0.01)


def test_scores_are_inner_products_with_unit_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    counts = rng.integers(0, 9, 60).tolist()
    vectors = [unit_vectors(count, row) for row, count in enumerate(counts)]
    spans = [[(3 * place, 3 * place + 2) for place in range(count)] for count in counts]
    path = tmp_path / "evidence.arrow"
    rows = to_columns([bytes(16)] * 60, spans, [quantized(each) for each in vectors])
    with ArrowWriter(path, SCHEMA) as writer:
        for first, last in ((0, 1), (1, 1), (1, 40), (40, 60)):  # parts of the file
            writer.write_rows(rows.slice(first, last - first))
    table = EvidenceTable(path, 60, DIM)
    wanted, query = rng.permutation(60).tolist(), unit_vectors(1, 99)[0]

    found = table.find(wanted, query)

    kept = np.concatenate([quantized(vectors[row]) for row in wanted]).astype(np.float64)
    scores = (kept @ query / np.linalg.norm(kept, axis=1)).tolist()
    for row, evidence in zip(wanted, found, strict=True):
        own = [scores.pop(0) for _ in range(counts[row])]
        best = best_of(own, [place for span in spans[row] for place in span])
        assert (evidence and (evidence.start, evidence.end)) == (best and (best.start, best.end))
        assert (evidence and evidence.score) == pytest.approx(best and best.score, abs=1e-6)
    assert sum(each is not None for each in found) > 20


PLACES = [0, 5, 6, 9, 10, 15, 16, 20]


def test_nothing_is_evidence_where_the_best_segment_does_not_lead() -> None:
    assert best_of([0.8, 0.8 - LEAST_LEAD / 2], PLACES[:4]) is None
    assert best_of([0.8, 0.8 + 2 * LEAST_LEAD], PLACES[:4]) == Evidence(6, 9, 0.8 + 2 * LEAST_LEAD)
    assert best_of([0.8], PLACES[:2]) is None
    assert best_of([0.8, 0.7, 0.8 - LEAST_LEAD / 2], PLACES[:6]) is None


@pytest.mark.parametrize(
    ("scores", "span"),
    [
        ([0.80, 0.70, 0.70, 0.70], (0, 5)),
        ([0.80, 0.80 - NEAR / 2, 0.70, 0.70], (0, 9)),
        ([0.70, 0.80 - NEAR / 2, 0.80, 0.70], (6, 15)),
        ([0.70, 0.80 - NEAR / 2, 0.80, 0.80 - NEAR / 4], (10, 20)),  # the better one
        ([0.70, 0.70, 0.80 - NEAR / 2, 0.80], (10, 20)),
        ([0.70, 0.80 - 2 * NEAR, 0.80, 0.70], (10, 15)),
        ([0.80 - NEAR / 2, 0.70, 0.80, 0.70], (10, 15)),  # not beside it
    ],
)
def test_the_better_segment_beside_the_best_one_joins_it_where_it_is_near(
    scores: list[float], span: tuple[int, int]
) -> None:
    assert best_of(scores, PLACES) == Evidence(*span, 0.80)


def test_two_segments_of_which_both_would_be_the_whole_passage_do_not_join() -> None:
    assert best_of([0.80, 0.80 - NEAR / 2], PLACES[:4]) == Evidence(0, 5, 0.80)


def test_a_joined_segment_leads_nothing_alone() -> None:
    low = 0.80 - LEAST_LEAD / 2

    assert best_of([0.70, 0.80, low, 0.70], PLACES) == Evidence(6, 15, 0.80)
    assert best_of([low, 0.70, 0.80, low], PLACES) is None


def test_passages_without_segments_have_no_evidence(tmp_path: Path) -> None:
    table = write(tmp_path / "evidence.arrow", [np.empty((0, DIM))] * 2, [[], []])

    assert table.find([0, 1], unit_vectors(1)[0]) == [None, None]
    assert table.find([], unit_vectors(1)[0]) == []


def test_int8_keeps_the_direction_and_a_vector_that_is_none_is_zero() -> None:
    vectors = unit_vectors(50)
    found = quantized(vectors).astype(np.float32)
    cosines = (found * vectors).sum(axis=1) / np.linalg.norm(found, axis=1)

    assert cosines.min() > 0.9999
    assert not quantized(np.full((1, DIM), np.nan, np.float32)).any()
    again = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert (quantized(again) == quantized(vectors)).all()


def test_a_file_of_another_number_of_passages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.arrow"
    write(path, [unit_vectors(2)], [[(0, 1), (2, 3)]])

    with pytest.raises(GenerationError, match="evidence of 2 passages: build the index again"):
        EvidenceTable(path, 2, DIM)


def packed(*places: int) -> bytes:
    return np.array(places, np.int32).tobytes()


@pytest.mark.parametrize(
    ("spans", "vectors", "fault"),
    [
        (packed(0, 3, 4, 8), bytes(DIM), "row 1 has 16 bytes of spans and 32 of vectors of 32"),
        (packed(0, 3)[:7], bytes(DIM), "row 1 has 7 bytes of spans and 32 of vectors of 32"),
        (packed(), bytes(DIM), "row 1 has 0 bytes of spans and 32 of vectors of 32"),
        (packed(0, 3, 8, 4), bytes(2 * DIM), "row 1 has a span from 8 to 4"),
        (packed(-1, 3, 4, 8), bytes(2 * DIM), "row 1 has a span from -1 to 3"),
        (None, bytes(DIM), "it lacks values"),
        (packed(0, 3), None, "it lacks values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("window", [1, 1 << 16])
def test_a_row_that_is_no_evidence_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spans: bytes | None,
    vectors: bytes | None,
    fault: str,
    window: int,
) -> None:
    monkeypatch.setattr(table, "WINDOW_ROWS", window)
    path = tmp_path / "evidence.arrow"
    columns = [[bytes(16)] * 3, [packed(0, 9), spans, packed()], [bytes(DIM), vectors, b""]]
    rows = [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)]
    with ArrowWriter(path, SCHEMA) as writer:
        writer.write_rows(pa.table(rows, schema=SCHEMA))

    with pytest.raises(GenerationError) as caught:
        EvidenceTable(path, 3, DIM)

    assert str(caught.value) == f"{path} is damaged, {fault}: build the index again"


def test_a_file_whose_values_lie_outside_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.arrow"
    write(path, [unit_vectors(2), unit_vectors(3)], [[(0, 1)] * 2, [(0, 1)] * 3])
    content, offsets = path.read_bytes(), packed(0, 2 * DIM, 5 * DIM)
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, packed(0, 2 * DIM, 1 << 30)))

    with pytest.raises(GenerationError, match="is damaged, .*: build the index again"):
        EvidenceTable(path, 2, DIM)


def test_an_index_without_evidence_says_how_to_have_it() -> None:
    reason = "the index was built without: run `index build --evidence`"

    assert describe_evidence(None) == {"available": False, "reason": reason}
