from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.errors import GenerationError
from service.retrieval.index.faiss.build import (
    build_faiss_index,
    check_factory,
    write_flat_header,
)
from service.retrieval.index.faiss.index import open_faiss_index

Vectors = NDArray[np.float32]


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("factory", ["Nonsense", "", "Flat,,", "PQ5"])
def test_a_factory_is_refused_before_anything_is_encoded(factory: str) -> None:
    with pytest.raises(GenerationError, match="describes no FAISS index for vectors of 16"):
        check_factory(factory, 16, has_fields=False)


def test_an_index_that_cannot_be_filtered_is_refused_where_fields_are_declared() -> None:
    check_factory("IVF4,PQ4x4fs", 16, has_fields=False)

    with pytest.raises(GenerationError, match="cannot be filtered, and fields are declared"):
        check_factory("IVF4,PQ4x4fs", 16, has_fields=True)


def test_equal_vectors_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_faiss_index(unit_vectors(300), "IVF4,SQ8", tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_memory_mapped_vectors_are_added_in_parts_that_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.index.faiss.build.ADD_ROWS", 4)
    (tmp_path / "raw").write_bytes(unit_vectors(10).tobytes())
    mapped = np.memmap(tmp_path / "raw", np.float32, "r", shape=(10, 16))
    num_rows: list[int] = []

    build_faiss_index(mapped, "Flat", tmp_path / "index", num_rows.append)

    assert num_rows == [4, 4, 2]
    rankings = open_faiss_index(tmp_path / "index").search(unit_vectors(10), 1)
    assert [int(ranking.rows[0]) for ranking in rankings] == list(range(10))


@pytest.mark.parametrize("factory", ["Nonsense", "IVF64,Flat", "PQ5", "", "Flat,,"])
def test_a_factory_that_cannot_be_built_is_named_with_the_fix(tmp_path: Path, factory: str) -> None:
    with pytest.raises(GenerationError, match="use --factory Flat") as caught:
        build_faiss_index(unit_vectors(10), factory, tmp_path / "index")

    assert f"cannot be built as {factory!r} from 10 vectors of 16" in str(caught.value)
    assert ".cpp" not in str(caught.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(("count", "dimension"), [(1, 384), (5, 3), (1000, 16)])
def test_a_header_and_vectors_are_the_bytes_that_faiss_writes(
    tmp_path: Path, count: int, dimension: int
) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, dimension)).astype(np.float32)
    build_faiss_index(vectors, "Flat", tmp_path / "by_faiss")

    with (tmp_path / "streamed").open("wb") as file:
        write_flat_header(file, count, dimension)
        file.write(vectors.data)

    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "by_faiss").read_bytes()
