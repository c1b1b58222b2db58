from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.exact import search_all
from service.retrieval.index.faiss.index import PRODUCT_QUERIES, FaissIndex, open_faiss_index
from service.retrieval.index.faiss.library import num_gpus

Vectors = NDArray[np.float32]


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def built(vectors: Vectors, path: Path, factory: str = "Flat") -> FaissIndex:
    build_faiss_index(vectors, factory, path)
    return open_faiss_index(path)


@pytest.mark.parametrize("num_queries", [1, PRODUCT_QUERIES, PRODUCT_QUERIES + 1, 40])
@pytest.mark.parametrize("top_k", [1, 10, 200])
def test_a_flat_index_equals_brute_force(tmp_path: Path, top_k: int, num_queries: int) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(num_queries, seed=1)

    rankings = built(vectors, tmp_path / "index").search(queries, top_k)

    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for ranking, expected in zip(rankings, scores, strict=True):
        order = np.argsort(-expected)[:top_k]
        assert ranking.rows.tolist() == order.tolist()
        np.testing.assert_allclose(ranking.scores, expected[order], atol=1e-6)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF2,Flat", "SQfp16"])
def test_no_more_hits_than_vectors_and_no_row_of_minus_one(tmp_path: Path, factory: str) -> None:
    vectors = unit_vectors(80)
    index = built(vectors, tmp_path / "index", factory)

    (ranking,) = index.search(vectors[:1], 1000)

    rows = ranking.rows.tolist()
    assert len(rows) == len(ranking.scores) == len(set(rows)) <= 80
    assert set(rows) <= set(range(80))
    assert rows[0] == 0
    assert np.all(np.diff(ranking.scores) <= 0)


def test_a_search_that_probes_too_few_lists_is_not_short(tmp_path: Path) -> None:
    """IVF probes one list of 40 vectors here, and FAISS pads the result with row -1."""
    vectors = np.repeat(np.eye(2, 16, dtype=np.float32), 40, axis=0)
    build_faiss_index(vectors, "IVF2,Flat", tmp_path / "index")
    index = open_faiss_index(tmp_path / "index", nprobe=1)

    (ranking,) = index.search(vectors[:1], 60)

    assert sorted(ranking.rows[:40].tolist()) == list(range(40))
    assert ranking.scores.tolist() == [1.0] * 40 + [0.0] * 20


@pytest.mark.parametrize(
    ("factory", "setting", "variable"),
    [("Flat", "nprobe", "CLEAR_NPROBE"), ("IVF2,Flat", "ef_search", "CLEAR_EF_SEARCH")],
)
def test_a_search_setting_that_the_index_lacks_is_refused(
    tmp_path: Path, factory: str, setting: str, variable: str
) -> None:
    build_faiss_index(unit_vectors(80), factory, tmp_path / "index")

    with pytest.raises(GenerationError, match=f"leave {variable} out"):
        open_faiss_index(tmp_path / "index", **{setting: 8})  # type: ignore[arg-type]


def test_more_lists_find_more(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(2000), unit_vectors(50, seed=1)
    build_faiss_index(vectors, "IVF32,Flat", tmp_path / "index")
    best = np.argmax(queries @ vectors.T, axis=1)

    def found(nprobe: int) -> int:
        rankings = open_faiss_index(tmp_path / "index", nprobe=nprobe).search(queries, 1)
        return sum(ranking.rows[0] == row for ranking, row in zip(rankings, best, strict=True))

    assert found(1) < found(8) <= found(32) == 50


def test_a_build_of_faiss_that_ignores_filters_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classic GPU indexes take a selection and ignore it."""
    index = built(unit_vectors(20), tmp_path / "index")
    index.check_selection_support()
    monkeypatch.setattr(
        "service.retrieval.index.faiss.index.search_selected",
        lambda index, queries, top_k, mask: search_all(index, queries, top_k),
    )

    with pytest.raises(GenerationError, match="ignores filters"):
        index.check_selection_support()


def test_top_k_over_the_count_gives_all_vectors(tmp_path: Path) -> None:
    index = built(unit_vectors(3), tmp_path / "index")

    rankings = index.search(unit_vectors(2, seed=1), 10)

    assert [sorted(ranking.rows.tolist()) for ranking in rankings] == [[0, 1, 2]] * 2


def test_no_queries_give_no_rankings(tmp_path: Path) -> None:
    assert built(unit_vectors(3), tmp_path / "index").search(np.empty((0, 16), np.float32), 5) == []


def test_an_empty_index_gives_each_query_an_empty_ranking(tmp_path: Path) -> None:
    index = built(np.empty((0, 16), np.float32), tmp_path / "index")

    rankings = index.search(unit_vectors(2), 5)

    assert [ranking.rows.tolist() for ranking in rankings] == [[], []]


def test_equal_vectors_all_come_back_with_one_score(tmp_path: Path) -> None:
    vectors = np.concatenate([unit_vectors(1).repeat(4, axis=0), unit_vectors(5, seed=1)])
    index = built(vectors, tmp_path / "index")

    (ranking,) = index.search(vectors[:1], 4)

    assert sorted(ranking.rows.tolist()) == [0, 1, 2, 3]
    assert len(set(ranking.scores.tolist())) == 1


def test_a_query_of_another_dtype_and_layout_is_taken(tmp_path: Path) -> None:
    vectors = unit_vectors(20)
    index = built(vectors, tmp_path / "index")

    rankings = index.search(np.asfortranarray(vectors.astype(np.float64)), 1)

    assert [ranking.rows.tolist() for ranking in rankings] == [[row] for row in range(20)]


def test_an_index_knows_its_size(tmp_path: Path) -> None:
    index = built(unit_vectors(5, dim=8), tmp_path / "index")

    assert (index.count, index.embedding_dim) == (5, 8)


@pytest.mark.parametrize("content", [b"", b"not an index", b"IxFI"])
def test_a_file_that_is_no_index_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index").write_bytes(content)

    with pytest.raises(GenerationError, match="index is not a FAISS index"):
        open_faiss_index(tmp_path / "index")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.skipif(num_gpus() > 7, reason="this build of faiss serves them")
def test_a_gpu_that_faiss_does_not_serve_is_refused(tmp_path: Path, device: str) -> None:
    if num_gpus() > int(device.partition(":")[2] or 0):
        pytest.skip("this build of faiss serves it")
    build_faiss_index(unit_vectors(3), "Flat", tmp_path / "index")

    with pytest.raises(DeviceError, match="serves 0 GPUs"):
        open_faiss_index(tmp_path / "index", device)
