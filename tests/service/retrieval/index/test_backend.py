"""The contract of `VectorIndex`, tested for every backend: the same rows, the same scores.

Products of one-hot vectors are exact in any precision, so that ties are ties.
"""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.filters import AnyOf, Filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import Selection
from service.retrieval.corpus.table import PassageTable, PassageTableWriter
from service.retrieval.index.backend import Ranking, Selected, VectorIndex
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.options import MilvusOptions
from service.retrieval.index.sharded import ShardedIndex
from service.retrieval.index.torch_flat import TorchFlatIndex

Vectors = NDArray[np.float32]
Open = Callable[[Vectors], VectorIndex]
FIELDS = parse_fields(["row:number"])
# How far a score may be from the exact one.
TOLERANCES = {
    "torch": 1e-6,
    "torch-tiles": 1e-6,
    "torch-shards": 1e-6,
    "Flat": 1e-6,
    "HNSW8": 1e-6,
    "IVF4,Flat": 1e-6,
    "IVF4_HNSW8,Flat": 1e-6,
    "IVF4,Flat,RFlat": 1e-6,
    "SQfp16": 1e-3,
    "SQ8": 0.02,
    "IVF4,SQ8": 0.02,
    "HNSW8_SQ8": 0.02,
    "milvus": 1e-6,  # in this process
    "milvus-server": 1e-6,
}
# They cannot be trained on less.
MIN_VECTORS = {"IVF4,Flat": 4, "IVF4_HNSW8,Flat": 4, "IVF4,Flat,RFlat": 4, "IVF4,SQ8": 4, "SQ8": 1,
               "HNSW8_SQ8": 1, "SQfp16": 0}  # fmt: skip


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_hot(rows: list[int]) -> Vectors:
    return np.eye(16, dtype=np.float32)[rows]


def selection(mask: NDArray[np.bool_]) -> Selection:
    """Select rows by a mask, and by a filter on the field that holds the row."""
    rows = np.flatnonzero(mask).tolist() or [-1]
    kept = Filter((("row", (AnyOf(tuple(rows)),)),))
    return Selection(kept, lambda: mask)


def names(is_exact: bool) -> list[Any]:
    """Return the names of all backends, or of the exact ones; a Milvus server starts slowly."""
    chosen = [name for name, tolerance in TOLERANCES.items() if tolerance == 1e-6 or not is_exact]
    slow = pytest.param("milvus-server", marks=pytest.mark.slow)
    return [slow if name == "milvus-server" else name for name in chosen]


@pytest.fixture(params=names(is_exact=False))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pushed(vectors: Vectors, path: Path, uri: str) -> VectorIndex:
    """Load vectors into a collection of their own; its one field holds the row."""
    from service.retrieval.index.milvus.index import open_milvus
    from service.retrieval.index.milvus.push import push

    build_faiss_index(vectors, "Flat", path / "index")
    with PassageTableWriter(path / "passages.arrow", FIELDS) as table:
        table.write([Passage(str(row), "text", "", {"row": row}) for row in range(len(vectors))])
    options = MilvusOptions(uri, index_type="FLAT", prefix=f"t{uuid.uuid4().hex}")
    push(path / "index", PassageTable(path / "passages.arrow", FIELDS), "name", options)
    count, dimension = vectors.shape
    return open_milvus("name", options, count, dimension, FIELDS)


@pytest.fixture(scope="module")
def collections() -> dict[tuple[str, int, bytes], VectorIndex]:
    """The vectors that each Milvus holds: no test changes them, and a push takes seconds."""
    return {}


@pytest.fixture
def open_index(
    name: str,
    tmp_path: Path,
    collections: dict[tuple[str, int, bytes], VectorIndex],
    request: pytest.FixtureRequest,
) -> Open:
    def opened(vectors: Vectors) -> VectorIndex:
        if len(vectors) < MIN_VECTORS.get(name, 0):
            pytest.skip(f"{name} needs {MIN_VECTORS[name]} vectors to be trained on")
        cpu = torch.device("cpu")
        if name.startswith("milvus"):
            key = name, vectors.shape[1], vectors.tobytes()
            if key not in collections:
                uri = request.getfixturevalue(f"{name.replace('-', '_')}_uri")
                collections[key] = pushed(vectors, tmp_path, uri)
            return collections[key]
        if name == "torch":
            return TorchFlatIndex(vectors, cpu)
        if name == "torch-tiles":
            return TorchFlatIndex(vectors, cpu, tile_scores=50)
        if name == "torch-shards":
            return ShardedIndex([TorchFlatIndex(part, cpu) for part in np.array_split(vectors, 3)])
        build_faiss_index(vectors, name, tmp_path / "index")
        return open_faiss_index(tmp_path / "index")

    return opened


def assert_best(
    ranking: Ranking, query: Vectors, vectors: Vectors, mask: NDArray[np.bool_], top_k: int,
    tolerance: float,
) -> None:  # fmt: skip
    """Assert that a ranking equals brute force among the selected rows, within the precision."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    expected = -np.sort(-scores[mask])[:top_k]
    assert len(ranking.rows) == len(set(ranking.rows.tolist())) == len(expected)
    assert mask[ranking.rows].all()
    assert np.all(np.diff(ranking.scores) <= 0)
    np.testing.assert_allclose(ranking.scores, expected, atol=tolerance)
    np.testing.assert_allclose(scores[ranking.rows], ranking.scores, atol=tolerance)
    if tolerance == 1e-6:
        order = np.flatnonzero(mask)[np.argsort(-scores[mask], kind="stable")]
        assert ranking.rows.tolist() == order[:top_k].tolist()


@pytest.mark.parametrize("top_k", [1, 10, 200, 1000])
def test_all_vectors_are_ranked_as_by_brute_force(open_index: Open, name: str, top_k: int) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(5, seed=1)

    rankings = open_index(vectors).search(queries, top_k)

    for ranking, query in zip(rankings, queries, strict=True):
        assert_best(ranking, query, vectors, np.ones(200, np.bool_), top_k, TOLERANCES[name])


@pytest.mark.parametrize("num_selected", [0, 1, 100, 200])
@pytest.mark.parametrize("top_k", [1, 10, 300])
def test_selected_vectors_are_ranked_as_by_brute_force(
    open_index: Open, name: str, num_selected: int, top_k: int
) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(3, seed=1)
    mask = np.zeros(200, np.bool_)
    mask[np.random.default_rng(2).permutation(200)[:num_selected]] = True

    rankings = open_index(vectors).search(queries, top_k, [selection(mask)] * 3)

    for ranking, query in zip(rankings, queries, strict=True):
        assert_best(ranking, query, vectors, mask, top_k, TOLERANCES[name])


def test_queries_with_different_filters_and_with_none_share_a_batch(
    open_index: Open, name: str
) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(5, seed=1)
    even, few = np.arange(200) % 2 == 0, np.isin(np.arange(200), [3, 50, 177])
    everything = np.ones(200, np.bool_)

    rankings = open_index(vectors).search(
        queries, 10, [selection(even), None, selection(few), selection(even), None]
    )

    for ranking, query, mask in zip(
        rankings, queries, [even, everything, few, even, everything], strict=True
    ):
        assert_best(ranking, query, vectors, mask, 10, TOLERANCES[name])


@pytest.mark.parametrize("name", names(is_exact=True))
def test_equal_scores_are_ordered_by_row(open_index: Open, name: str) -> None:
    vectors = one_hot([3, 1, 2, 1, 3, 1, 2, 1, 1, 3])
    mask = np.arange(10) != 1

    index = open_index(vectors)
    rankings = index.search(one_hot([1, 2, 3]), 4)
    hidden = index.search(one_hot([1]), 4, [selection(mask)])

    assert [ranking.rows.tolist() for ranking in rankings] == [
        [1, 3, 5, 7], [2, 6, 0, 1], [0, 4, 9, 1],
    ]  # fmt: skip
    assert hidden[0].rows.tolist() == [3, 5, 7, 8]
    assert rankings[1].scores.tolist() == [1.0, 1.0, 0.0, 0.0]


def assert_prefixes(index: VectorIndex, queries: Vectors, selected: Selected) -> list[int]:
    """Assert that fewer hits are the first of more hits; return the rows of the first query."""
    whole = index.search(queries, 120, selected)
    for top_k in (1, 4, 50, 99):
        for ranking, most in zip(index.search(queries, top_k, selected), whole, strict=True):
            assert ranking.rows.tolist() == most.rows[:top_k].tolist()
    return whole[0].rows.tolist()


@pytest.mark.parametrize("num_queries", [1, 2, 18])
@pytest.mark.parametrize("name", ["torch", "torch-tiles", "torch-shards", "Flat", "SQ8", "SQfp16"])
def test_fewer_hits_are_the_first_of_more_hits_at_any_number_of_ties(
    open_index: Open, name: str, num_queries: int
) -> None:
    vectors = one_hot([2] + [0, 1] * 200)

    rows = assert_prefixes(open_index(vectors), one_hot([0, 1] * 9)[:num_queries], None)

    assert rows == list(range(1, 241, 2))


@pytest.mark.parametrize("num_queries", [1, 2, 18])
@pytest.mark.parametrize("name", [name for name in TOLERANCES if "milvus" not in name])
def test_fewer_hits_among_selected_vectors_are_the_first_of_more_hits(
    open_index: Open, name: str, num_queries: int
) -> None:
    vectors = one_hot([2] + [0, 1] * 200)
    kept = selection(np.arange(len(vectors)) % 3 > 0)

    rows = assert_prefixes(
        open_index(vectors), one_hot([0, 1] * 9)[:num_queries], [kept] * num_queries
    )

    assert rows == [row for row in range(1, 401, 2) if row % 3][:120]


@pytest.mark.parametrize("name", names(is_exact=True))
def test_every_copy_of_a_vector_is_found(open_index: Open, name: str) -> None:
    vectors = np.concatenate([unit_vectors(5, seed=1), unit_vectors(1).repeat(12, axis=0)])

    (ranking,) = open_index(vectors).search(vectors[-1:], 12)

    assert sorted(ranking.rows.tolist()) == list(range(5, 17))
    assert ranking.scores == pytest.approx([1.0] * 12, abs=1e-6)


def test_an_empty_index_gives_each_query_an_empty_ranking(open_index: Open) -> None:
    index = open_index(np.empty((0, 16), np.float32))

    rankings = index.search(unit_vectors(2), 5, [None, selection(np.empty(0, np.bool_))])

    assert [ranking.rows.tolist() for ranking in rankings] == [[], []]
    assert index.count == 0


def test_one_vector_is_found_by_every_query(open_index: Open, name: str) -> None:
    vector = unit_vectors(1)

    rankings = open_index(vector).search(np.concatenate([vector, -vector]), 10)

    assert [ranking.rows.tolist() for ranking in rankings] == [[0], [0]]
    tolerance = TOLERANCES[name]
    assert [float(ranking.scores[0]) for ranking in rankings] == pytest.approx(
        [1.0, -1.0], abs=tolerance
    )


def test_no_queries_give_no_rankings(open_index: Open) -> None:
    index = open_index(unit_vectors(200))

    assert index.search(np.empty((0, 16), np.float32), 5) == []
    assert index.search(np.empty((0, 16), np.float32), 5, []) == []


def test_a_tensor_finds_what_an_array_finds(open_index: Open) -> None:
    index, queries = open_index(unit_vectors(200)), unit_vectors(4, seed=1)

    pairs = zip(index.search(queries, 5), index.search(torch.from_numpy(queries), 5), strict=True)

    assert all(left.rows.tolist() == right.rows.tolist() for left, right in pairs)


def test_a_ranking_is_of_the_protocols_types(open_index: Open) -> None:
    index = open_index(unit_vectors(40, dim=8))
    mask = selection(np.arange(40) < 20)

    for selected in (None, [mask]):
        (ranking,) = index.search(unit_vectors(1, dim=8), 3, selected)
        assert (ranking.scores.dtype, ranking.rows.dtype) == (np.float32, np.int64)
    assert (index.count, index.embedding_dim) == (40, 8)
