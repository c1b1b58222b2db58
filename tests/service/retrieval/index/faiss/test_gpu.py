"""CAGRA and GPU copies: files on the CPU, calls with a stand-in, the rest with `-m gpu`."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.corpus.filters import AnyOf, Filter
from service.retrieval.corpus.selection import Selection
from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.faiss.build import build_faiss_index, check_factory
from service.retrieval.index.faiss.gpu import build_cagra, cagra_degree
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.faiss.library import has_cuvs, num_gpus

Vectors = NDArray[np.float32]
FAISS: Any = faiss  # without the type hints of the CPU build
COUNT, DIM = 600, 16
on_a_gpu = pytest.mark.skipif(not (has_cuvs() and num_gpus()), reason="needs a GPU and cuVS")
without_cuvs = pytest.mark.skipif(has_cuvs(), reason="this build of faiss holds cuVS")


def unit_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def nearest(vectors: Vectors, queries: Vectors, top_k: int, mask: Any = True) -> list[list[int]]:
    scores = np.where(mask, queries @ vectors.T, -2)
    return np.argsort(-scores, axis=1)[:, :top_k].tolist()  # type: ignore[no-any-return]


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    """A graph file in the format of a graph that cuVS built."""
    graph = FAISS.IndexHNSWCagra(DIM, 16, faiss.METRIC_INNER_PRODUCT, FAISS.Float16)
    graph.add(unit_vectors(COUNT))
    faiss.write_index(graph, str(tmp_path / "index"))
    return tmp_path / "index"


class StandInGraph:
    """Searches like `GpuIndexCagra`: half precision, no selections; records its calls."""

    def __init__(self, graph: Any) -> None:
        self._vectors = graph.storage.reconstruct_n(0, graph.ntotal)
        self.ntotal, self.d = graph.ntotal, graph.d
        self.asked: list[tuple[int, int]] = []

    def search(
        self, queries: Any, top_k: int, params: Any, numeric_type: int
    ) -> tuple[Vectors, NDArray[np.int64]]:
        assert queries.dtype == np.float16
        assert numeric_type == FAISS.Float16
        assert params.itopk_size >= top_k
        assert params.itopk_size % 32 == 0
        self.asked.append((top_k, params.itopk_size))
        scores = queries.astype(np.float32) @ self._vectors.T
        rows = np.argsort(-scores, axis=1)[:, :top_k]
        return np.take_along_axis(scores, rows, axis=1), rows


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Make faiss look as if built with cuVS for two GPUs; list the copies."""
    copied: list[Any] = []

    def copy(resources: object, number: int, index: Any, options: Any) -> Any:
        if isinstance(index, faiss.IndexPQ):
            raise RuntimeError("This index type is not implemented on GPU.")
        graph = StandInGraph(index) if isinstance(index, FAISS.IndexHNSWCagra) else index
        copied.append((number, options, graph))
        return graph

    for name, value in {
        "StandardGpuResources": SimpleNamespace,
        "GpuClonerOptions": SimpleNamespace,
        "SearchParametersCagra": SimpleNamespace,
        "get_num_gpus": lambda: 2,
        "get_compile_options": lambda: "GPU NVIDIA_CUVS ",
        "index_cpu_to_gpu": copy,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    yield copied


def test_a_factory_string_names_the_neighbors_of_a_cagra_graph() -> None:
    assert cagra_degree("CAGRA64") == 64
    assert cagra_degree("HNSW32") is None
    for wrong in ("CAGRA0", "CAGRA7", "CAGRA256"):
        with pytest.raises(GenerationError, match=f"'{wrong}'.* use CAGRA64"):
            cagra_degree(wrong)


@without_cuvs
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cagra_graph_is_refused_before_the_build_where_none_can_be_built(device: str) -> None:
    with pytest.raises(DeviceError, match=r"'CAGRA64' is built on a GPU by cuVS.* HNSW32"):
        check_factory("CAGRA64", DIM, has_fields=False, device=device)


@without_cuvs
def test_a_cagra_graph_is_not_copied_to_a_gpu_without_cuvs(
    graph_file: Path, stand_in: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "get_compile_options", lambda: "GPU ")

    with pytest.raises(DeviceError, match="built without cuVS: install the extra `gpu`"):
        open_faiss_index(graph_file, "cuda")


def test_a_cagra_graph_is_searched_on_a_cpu_too(graph_file: Path) -> None:
    vectors, queries = unit_vectors(COUNT), unit_vectors(20, seed=1)
    index = open_faiss_index(graph_file, ef_search=400)

    found = [ranking.rows.tolist() for ranking in index.search(queries, 5)]

    agreed = [
        row in near
        for rows, near in zip(found, nearest(vectors, queries, 5), strict=True)
        for row in rows
    ]
    assert np.mean(agreed) > 0.95


@pytest.mark.parametrize("num_selected", [0, 1, COUNT // 2, COUNT])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_filters_of_a_cagra_graph_are_exact(
    graph_file: Path, stand_in: list[Any], num_selected: int, device: str
) -> None:
    vectors, queries = unit_vectors(COUNT), unit_vectors(4, seed=1)
    mask = np.arange(COUNT) < num_selected
    index = open_faiss_index(graph_file, device)

    selection = Selection(Filter((("kept", (AnyOf((True,)),)),)), lambda: mask)

    found = [ranking.rows.tolist() for ranking in index.search(queries, 3, [selection] * 4)]

    wanted = nearest(vectors, queries, min(3, num_selected), mask)
    assert found == wanted
    index.check_selection_support()


@pytest.mark.parametrize(
    ("ef_search", "top_k", "kept"), [(None, 10, 128), (None, 200, 224), (64, 10, 64), (50, 40, 64)]
)
def test_a_search_on_a_gpu_keeps_as_many_candidates_as_it_returns(
    graph_file: Path, stand_in: list[Any], ef_search: int | None, top_k: int, kept: int
) -> None:
    vectors, queries = unit_vectors(COUNT), unit_vectors(3, seed=1)

    index = open_faiss_index(graph_file, "cuda:1", ef_search=ef_search)
    found = [ranking.rows.tolist() for ranking in index.search(queries, top_k)]

    [(number, options, graph)] = stand_in
    assert (number, options.useFloat16, options.use_cuvs) == (1, True, True)
    assert graph.asked == [(top_k + 16, kept)]
    assert (index.count, index.embedding_dim) == (COUNT, DIM)
    expected = nearest(vectors, queries, top_k)
    assert np.mean([set(a) == set(b) for a, b in zip(found, expected, strict=True)]) > 0.6


def test_a_faiss_for_gpus_that_counts_too_few_points_at_the_driver(
    graph_file: Path, stand_in: list[Any]
) -> None:
    with pytest.raises(DeviceError, match=r"serves 2 GPUs, .* GPU 2: check `nvidia-smi` .* 580"):
        open_faiss_index(graph_file, "cuda:2")


@pytest.mark.parametrize("factory", ["IVF4,SQ8", "PCA8,IVF4,SQ8", "SQfp16", "PCA8,SQfp16"])
def test_scalar_codes_are_left_to_faiss_own_kernels(
    tmp_path: Path, stand_in: list[Any], factory: str
) -> None:
    build_faiss_index(unit_vectors(COUNT), factory, tmp_path / "index")

    open_faiss_index(tmp_path / "index", "cuda")

    assert [options.use_cuvs for _, options, _ in stand_in] == [False]


def test_an_index_that_no_gpu_searches_is_refused_with_those_that_one_does(
    tmp_path: Path, stand_in: list[Any]
) -> None:
    build_faiss_index(unit_vectors(COUNT), "PQ4x4", tmp_path / "index")

    with pytest.raises(GenerationError, match=r"no IndexPQ on a GPU .* IVF\.\.\.,SQ8"):
        open_faiss_index(tmp_path / "index", "cuda")


@pytest.mark.parametrize("factory", ["IVF4,SQ8", "PCA8,IVF4,SQ8"])
def test_more_lists_than_a_gpu_visits_are_refused(
    tmp_path: Path, stand_in: list[Any], factory: str
) -> None:
    build_faiss_index(unit_vectors(COUNT), factory, tmp_path / "index")

    open_faiss_index(tmp_path / "index", "cuda", nprobe=2048)
    with pytest.raises(GenerationError, match="CLEAR_NPROBE=2049 is above 2048"):
        open_faiss_index(tmp_path / "index", "cuda", nprobe=2049)

    assert len(stand_in) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        RuntimeError("Error in allocMemory at StandardGpuResources.cpp:1: memory allocation error"),
        RuntimeError("StandardGpuResources: alloc fail (cudaMalloc error out of memory [2])"),
    ],
)
def test_an_index_beyond_the_memory_of_a_gpu_is_not_called_unknown_to_it(
    tmp_path: Path, stand_in: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuse)
    monkeypatch.setattr(faiss, "GpuIndexCagraConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexCagra", refuse, raising=False)
    vectors = unit_vectors(COUNT)
    build_faiss_index(vectors, "Flat", tmp_path / "index")

    words = "600 vectors of 16 do not fit in the memory of cuda:1: use a larger GPU"
    with pytest.raises(DeviceError, match=words):
        open_faiss_index(tmp_path / "index", "cuda:1")
    with pytest.raises(DeviceError, match=words):
        build_cagra(vectors, 16, "cuda:1")


@pytest.mark.parametrize("count", [0, 4, 16])
def test_a_graph_of_too_few_vectors_is_refused(stand_in: list[Any], count: int) -> None:
    """Of up to four vectors, FAISS's copy to the CPU never ended."""
    with pytest.raises(GenerationError, match=rf"16 neighbors from {count} vectors .* Flat"):
        build_cagra(unit_vectors(COUNT)[:count], 16, "cuda")


def test_the_vectors_of_a_graph_live_until_it_is_copied_to_the_cpu(
    stand_in: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS keeps only their address, and reads them again for the copy."""

    class Graph:
        def __init__(self, *_: object) -> None:
            pass

        def train(self, vectors: NDArray[np.float16], numeric_type: int) -> None:
            assert (vectors.dtype, numeric_type) == (np.float16, FAISS.Float16)
            self.vectors = weakref.ref(vectors)

    monkeypatch.setattr(faiss, "GpuIndexCagraConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexCagra", Graph, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", lambda graph: graph.vectors(), raising=False)

    vectors = unit_vectors(COUNT)

    np.testing.assert_array_equal(build_cagra(vectors, 16, "cuda"), vectors.astype(np.float16))


@pytest.mark.gpu
@on_a_gpu
def test_a_graph_built_and_searched_on_a_gpu_finds_the_nearest(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(20_000), unit_vectors(100, seed=1)
    reported: list[int] = []

    build_faiss_index(vectors, "CAGRA64", tmp_path / "index", reported.append, "cuda")
    on_gpu = open_faiss_index(tmp_path / "index", "cuda").search(queries, 10)
    on_cpu = open_faiss_index(tmp_path / "index").search(queries, 10)

    for rankings in (on_gpu, on_cpu):
        found = [ranking.rows.tolist() for ranking in rankings]
        pairs = zip(found, nearest(vectors, queries, 10), strict=True)
        assert np.mean([len(set(rows) & set(near)) / 10 for rows, near in pairs]) > 0.95
    assert reported == [20_000]
