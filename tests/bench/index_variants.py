"""Comparison of index types: recall@10 against exact search, speed, bytes and build time.

Run: python -m tests.bench.index_variants --passages 100000 1000000

Each index is built once and kept under `--work`, so that a stopped run can resume. Speed is a
multiple of a bare matrix product with top-k of the same size, measured in turns with it.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.torch_flat import open_torch_flat
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.bench.vectors import Vectors, ensure_queries, ensure_vectors

TOP_K = 10
# Enough queries to estimate recall to within .005.
NUM_RECALLED = 1000
BREADTHS = {"IVF": ("nprobe", (8, 16, 32, 64, 128)), "HNSW": ("ef_search", (32, 64, 128, 256))}


def main() -> None:
    """Measure every index type at every size."""
    made = parser(__doc__)
    made.add_argument("--passages", type=int, nargs="+", default=[100_000, 1_000_000])
    made.add_argument(
        "--kinds", nargs="+", default=["Flat", "SQ8", "IVF,SQ8", "IVF,PQ96", "HNSW32"]
    )
    made.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    made.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    options = made.parse_args()
    found = [each for count in options.passages for each in measure_size(options, count)]
    write_result(
        "index_variants", options, {"torch_threads": torch.get_num_threads(), "found": found}
    )


def measure_size(options: argparse.Namespace, count: int) -> list[dict[str, object]]:
    """Measure all index types at one size."""
    vectors, queries = ensure_vectors(options, count), ensure_queries(options)
    flat, _ = ensure_index(options, vectors, "Flat")
    exact = open_torch_flat(flat, "cpu")
    truth = [ranking.rows for ranking in exact.search(queries[:NUM_RECALLED], TOP_K)]
    bare = bare_search(vectors)
    found = []
    for kind in options.kinds:
        lists = 1024 if count < 500_000 else 4096
        factory = kind.replace("IVF,", f"IVF{lists},")
        path, cpu_seconds = ensure_index(options, vectors, factory)
        facts = {
            "passages": count,
            "factory": factory,
            "bytes_a_passage": round(path.stat().st_size / count, 1),
            "build_cpu_seconds": cpu_seconds,
        }
        for backend, setting, index in open_variants(path, factory):
            rows = [ranking.rows for ranking in index.search(queries[:NUM_RECALLED], TOP_K)]
            measured = {
                **facts,
                "backend": backend,
                **setting,
                "recall_at_10": recall(rows, truth),
                "speeds": [speeds(options, index, bare, queries, size) for size in options.batches],
            }
            say(str(measured))
            found.append(measured)
    return found


def ensure_index(options: argparse.Namespace, vectors: Vectors, factory: str) -> tuple[Path, float]:
    """Return the file of an index and the CPU seconds of its build; build it the first time."""
    path = options.work / f"index-{len(vectors)}-{factory}"
    note = path.with_name(f"{path.name}.json")
    if not note.is_file():
        started = time.process_time()
        build_faiss_index(vectors, factory, path)
        note.write_text(json.dumps({"cpu_seconds": time.process_time() - started}))
    return path, round(json.loads(note.read_text())["cpu_seconds"], 1)


def open_variants(path: Path, factory: str) -> list[tuple[str, dict[str, int], VectorIndex]]:
    """Open an index with each backend that serves it, and with each search breadth."""
    if factory == "Flat":
        return [
            ("torch", {}, open_torch_flat(path, "cpu")),
            ("faiss", {}, open_faiss_index(path)),
        ]
    for prefix, (name, breadths) in BREADTHS.items():
        if factory.startswith(prefix):
            return [
                ("faiss", {name: breadth}, open_faiss_index(path, **{name: breadth}))  # type: ignore[arg-type]
                for breadth in breadths
            ]
    return [("faiss", {}, open_faiss_index(path))]


def bare_search(vectors: Vectors) -> Callable[[Vectors], object]:
    """Return the reference: one BLAS product and one top-k."""
    matrix = torch.tensor(vectors)

    def search(queries: Vectors) -> object:
        return torch.topk(torch.from_numpy(queries) @ matrix.T, TOP_K, dim=1)

    return search


def speeds(
    options: argparse.Namespace,
    index: VectorIndex,
    bare: Callable[[Vectors], object],
    queries: Vectors,
    size: int,
) -> dict[str, float]:
    """Measure an index and the reference in turns, batch by batch."""
    spent: dict[str, list[float]] = {"index": [], "bare": []}
    searches = {"index": lambda batch: index.search(batch, TOP_K), "bare": bare}
    began, place = time.monotonic(), 0
    while time.monotonic() - began < options.seconds or place < 3:
        start = place * size % (len(queries) - size)
        batch = np.ascontiguousarray(queries[start : start + size])
        for name, search in searches.items():
            started = time.perf_counter()
            search(batch)
            spent[name].append(time.perf_counter() - started)
        place += 1
    medians = {name: float(np.median(times[1:])) for name, times in spent.items()}
    return {
        "batch": size,
        "queries_a_second": round(size / medians["index"], 1),
        "of_bare": round(medians["bare"] / medians["index"], 2),
        "n": place - 1,
    }


def recall(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Return recall@10: the mean share of the exact ten that is found."""
    shares = [
        len(np.intersect1d(rows, expected)) / len(expected)
        for rows, expected in zip(found, truth, strict=True)
    ]
    return round(float(np.mean(shares)), 4)


if __name__ == "__main__":
    main()
