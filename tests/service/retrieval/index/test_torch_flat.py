"""The same assertions on CPU and GPU. Uses no conftest, so that a bare GPU machine can run it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.backend import Ranking
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.torch_flat import TorchFlatIndex, open_torch_flat

Vectors = NDArray[np.float32]
# Vectors and queries are in fp16 on a GPU.
TOLERANCE = {"cpu": 1e-6, "cuda": 2e-3}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_hot(rows: list[int], dim: int = 16) -> Vectors:
    """Vectors whose products are exact in any precision, so that ties are ties."""
    return np.eye(dim, dtype=np.float32)[rows]


def rows_of(rankings: list[Ranking]) -> list[list[int]]:
    return [ranking.rows.tolist() for ranking in rankings]


@pytest.mark.parametrize("top_k", [1, 10, 200, 1000])
@pytest.mark.parametrize("dim", [16, 384])
def test_the_search_equals_brute_force(device: torch.device, top_k: int, dim: int) -> None:
    vectors, queries = unit_vectors(200, dim), unit_vectors(7, dim, seed=1)

    rankings = TorchFlatIndex(vectors, device).search(queries, top_k)

    products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for ranking, expected in zip(rankings, products, strict=True):
        best = -np.sort(-expected)[:top_k]
        np.testing.assert_allclose(ranking.scores, best, atol=TOLERANCE[device.type])
        np.testing.assert_allclose(
            expected[ranking.rows], ranking.scores, atol=TOLERANCE[device.type]
        )
        assert len(set(ranking.rows.tolist())) == len(best) == min(top_k, 200)
        if device.type == "cpu":
            assert ranking.rows.tolist() == np.argsort(-expected)[:top_k].tolist()


def test_a_ranking_is_of_the_protocols_types(device: torch.device) -> None:
    (ranking,) = TorchFlatIndex(unit_vectors(5), device).search(unit_vectors(1), 3)

    assert (ranking.scores.dtype, ranking.rows.dtype) == (np.float32, np.int64)
    assert np.all(np.diff(ranking.scores) <= 0)


def test_scores_are_finer_than_half_precision(device: torch.device) -> None:
    """Near 1, fp16 has steps of 0.0005; sums in fp32 distinguish passages that are closer."""
    center, aside = unit_vectors(2, 384)
    vectors = center + 0.02 * unit_vectors(200, 384, seed=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = (center + 0.5 * aside)[None] / np.linalg.norm(center + 0.5 * aside)

    (ranking,) = TorchFlatIndex(vectors, device).search(query, 200)

    assert len(set(ranking.scores.astype(np.float16).tolist())) < 20
    assert len(set(ranking.scores.tolist())) > 150


def test_top_k_over_the_count_gives_all_vectors(device: torch.device) -> None:
    rankings = TorchFlatIndex(unit_vectors(3), device).search(unit_vectors(2, seed=1), 10)

    assert [sorted(rows) for rows in rows_of(rankings)] == [[0, 1, 2]] * 2


def test_one_vector_is_found(device: torch.device) -> None:
    vector = unit_vectors(1)

    (ranking,) = TorchFlatIndex(vector, device).search(vector, 5)

    assert ranking.rows.tolist() == [0]
    assert ranking.scores[0] == pytest.approx(1.0, abs=TOLERANCE[device.type])


def test_an_empty_index_gives_each_query_an_empty_ranking(device: torch.device) -> None:
    index = TorchFlatIndex(np.empty((0, 16), np.float32), device)

    assert rows_of(index.search(unit_vectors(2), 5)) == [[], []]


def test_no_queries_give_no_rankings(device: torch.device) -> None:
    index = TorchFlatIndex(unit_vectors(3), device)

    assert index.search(np.empty((0, 16), np.float32), 5) == []


def test_an_index_knows_its_size(device: torch.device) -> None:
    index = TorchFlatIndex(unit_vectors(5, dim=8), device)

    assert (index.count, index.embedding_dim) == (5, 8)


@pytest.mark.parametrize("tile_scores", [1, 6, 21, 90, 10_000])
def test_equal_scores_are_ordered_by_row(device: torch.device, tile_scores: int) -> None:
    vectors = one_hot([3, 1, 2, 1, 3, 1, 2, 1, 1, 3])

    rankings = TorchFlatIndex(vectors, device, tile_scores).search(one_hot([1, 2, 3]), 4)

    assert rows_of(rankings) == [[1, 3, 5, 7], [2, 6, 0, 1], [0, 4, 9, 1]]
    assert [ranking.scores.tolist() for ranking in rankings] == [
        [1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 0.0],
    ]


@pytest.mark.parametrize("tile_scores", [90, 3000, 10**6])
def test_any_number_of_ties_at_the_cut_gives_the_lowest_rows(
    device: torch.device, tile_scores: int
) -> None:
    vectors = one_hot([1] + [0] * 3000 + [1] * 20)

    best = TorchFlatIndex(vectors, device, tile_scores).search(one_hot([0, 1]), 30)

    assert rows_of(best) == [[*range(1, 31)], [0, *range(3001, 3021), *range(1, 10)]]


@pytest.mark.parametrize("tile_scores", [1, 7, 50, 333, 1400, 2100])
@pytest.mark.parametrize("top_k", [1, 5, 300])
def test_tiles_give_what_one_tile_gives(device: torch.device, tile_scores: int, top_k: int) -> None:
    vectors, queries = unit_vectors(300), unit_vectors(7, seed=1)
    whole = TorchFlatIndex(vectors, device).search(queries, top_k)

    tiled = TorchFlatIndex(vectors, device, tile_scores).search(queries, top_k)

    for found, expected in zip(tiled, whole, strict=True):
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert len(set(found.rows.tolist())) == len(expected.rows)
        assert set(found.rows[: top_k // 2].tolist()) <= set(expected.rows.tolist())


def test_a_tensor_on_the_device_finds_what_an_array_finds(device: torch.device) -> None:
    index, queries = TorchFlatIndex(unit_vectors(50), device), unit_vectors(4, seed=1)

    from_array, from_tensor = (
        index.search(queries, 10),
        index.search(torch.from_numpy(queries).to(device), 10),
    )

    assert rows_of(from_array) == rows_of(from_tensor)
    for left, right in zip(from_array, from_tensor, strict=True):
        assert left.scores.tolist() == right.scores.tolist()


def test_a_tensor_of_inference_mode_is_taken(device: torch.device) -> None:
    with torch.inference_mode():
        queries = torch.nn.functional.normalize(torch.ones(2, 16, device=device))

    assert len(TorchFlatIndex(unit_vectors(5), device).search(queries, 2)) == 2


def test_a_query_of_another_dtype_and_layout_is_taken(device: torch.device) -> None:
    vectors = unit_vectors(20)
    index = TorchFlatIndex(vectors, device)

    rankings = index.search(np.asfortranarray(vectors.astype(np.float64))[::-1], 1)

    assert rows_of(rankings) == [[row] for row in reversed(range(20))]


def test_a_query_alone_is_ranked_as_in_a_batch(device: torch.device) -> None:
    index, queries = TorchFlatIndex(unit_vectors(500), device), unit_vectors(9, seed=1)

    together = index.search(queries, 10)

    for query, ranking in zip(queries, together, strict=True):
        (alone,) = index.search(query[None], 10)
        np.testing.assert_allclose(alone.scores, ranking.scores, atol=TOLERANCE[device.type])


def test_memory_mapped_vectors_are_uploaded_in_blocks(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.index.torch_flat.UPLOAD_ROWS", 4)
    (tmp_path / "raw").write_bytes(unit_vectors(10).tobytes())
    mapped = np.memmap(tmp_path / "raw", np.float32, "r", shape=(10, 16))

    rankings = TorchFlatIndex(mapped, device).search(unit_vectors(10), 1)

    assert rows_of(rankings) == [[row] for row in range(10)]


def test_a_flat_file_is_searched_as_faiss_searches_it(tmp_path: Path, device: torch.device) -> None:
    vectors, queries = unit_vectors(300), unit_vectors(20, seed=1)
    build_faiss_index(vectors, "Flat", tmp_path / "index")

    found = open_torch_flat(tmp_path / "index", device.type).search(queries, 10)

    expected = open_faiss_index(tmp_path / "index").search(queries, 10)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left.scores, right.scores, atol=TOLERANCE[device.type])
    if device.type == "cpu":
        assert rows_of(found) == rows_of(expected)


def test_an_empty_flat_file_opens(tmp_path: Path, device: torch.device) -> None:
    build_faiss_index(np.empty((0, 16), np.float32), "Flat", tmp_path / "index")

    index = open_torch_flat(tmp_path / "index", device.type)

    assert (index.count, index.embedding_dim) == (0, 16)


def test_vectors_outlive_the_file_they_came_from(tmp_path: Path, device: torch.device) -> None:
    vectors = unit_vectors(1000, 64)
    build_faiss_index(vectors, "Flat", tmp_path / "index")
    index = open_torch_flat(tmp_path / "index", device.type)
    (tmp_path / "index").unlink()
    np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)  # takes freed memory

    assert rows_of(index.search(vectors, 1)) == [[row] for row in range(1000)]


@pytest.mark.parametrize("factory", ["HNSW8", "IVF2,Flat", "SQfp16", "Flat,RFlat", "L2norm,Flat"])
def test_an_index_that_is_not_flat_is_refused_with_the_fix(tmp_path: Path, factory: str) -> None:
    build_faiss_index(unit_vectors(80), factory, tmp_path / "index")

    with pytest.raises(GenerationError, match="build the index with --factory Flat"):
        open_torch_flat(tmp_path / "index", "cpu")


def test_a_file_that_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"not an index")

    with pytest.raises(GenerationError, match="index is not a FAISS index"):
        open_torch_flat(tmp_path / "index", "cpu")


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="there are eight GPUs")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="searched on cuda:7, and the machine has"):
        open_torch_flat(tmp_path / "index", "cuda:7")


def test_vectors_that_do_not_fit_are_refused_with_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr(torch, "empty", fail)

    with pytest.raises(DeviceError, match=r"5 vectors of 16 need 0.0 GiB .* smaller --factory"):
        TorchFlatIndex(unit_vectors(5), torch.device("cuda"))


def test_vectors_that_stay_in_their_file_are_searched_as_a_copy_is(tmp_path: Path) -> None:
    vectors = unit_vectors(300, 16)
    build_faiss_index(vectors, "Flat", tmp_path / "index")

    mapped = open_torch_flat(tmp_path / "index", "cpu", is_mapped=True)
    copied = open_torch_flat(tmp_path / "index", "cpu")

    both = [each.search(vectors[:9], 20) for each in (mapped, copied)]
    for found, expected in zip(*both, strict=True):
        np.testing.assert_array_equal(found.rows, expected.rows)
        # BLAS sums by where a vector begins in memory.
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-6)
