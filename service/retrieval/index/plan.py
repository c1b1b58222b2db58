"""Index options for a corpus: computed size, measured recall and build time.

Measured by `tests.bench.index_variants`: 384 dimensions, two cores, queries in eight languages.
Queries in other languages are farther from the passages, and IVF and graph indexes have less recall
for them than for passages as queries. Other embeddings differ: measure yours.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

GIBIBYTE = 2**30
# A CPU scores a million vectors of 384 dimensions in tenths of a second.
MAX_FLAT_ON_CPU = 1_000_000
# Vectors per list that FAISS needs to train an IVF index well.
VECTORS_PER_LIST = 39
GRAPH_BYTES = 2 * 32 * 4 + 16  # edges and levels per vector of HNSW32
CAGRA_BYTES = 64 * 4  # edges per vector of CAGRA64


# The numbers of vectors at which recall was measured; it falls as an index grows.
MEASURED_SIZES = (100_000, 1_000_000)
EF_SEARCH = "CLEAR_EF_SEARCH=128"  # the default
NPROBE = "CLEAR_NPROBE=128"  # the default


class Measured(NamedTuple):
    """Recall@10 at each of `MEASURED_SIZES`, and CPU minutes of a build, at most.

    `setting` is the search setting at which recall was measured.
    """

    recalls: tuple[float | None, float | None]
    build_minutes_per_million: float | None
    setting: str = ""


FLAT = Measured((1.0, 1.0), 0.1)
SCALAR = Measured((0.983, 0.975), 0.1)
GRAPH = Measured((0.959, 0.773), 8.0, EF_SEARCH)
LISTS = Measured((0.766, 0.574), 2.5, NPROBE)
PRODUCT = Measured((0.574, 0.397), 6.0, NPROBE)
NOT_MEASURED = Measured((None, None), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to index a corpus; `factory` is FAISS's description of the index.

    `recall_at_10` was measured at `recall_size` vectors, with `recall_setting`.
    """

    backend: Literal["torch", "faiss", "milvus"]
    factory: str
    gibibytes: float
    recall_at_10: float | None
    recall_size: int | None
    recall_setting: str
    build_minutes: float | None
    why: str
    is_advised: bool = False


def plan(
    num_passages: int, embedding_dim: int, memory_gibibytes: float, on_gpu: bool = False
) -> list[Plan]:
    """Return the index options for a corpus, ranked, and recommend one.

    Recommended is the first that fits the memory and is fast enough.

    Args:
        num_passages: size of the corpus.
        embedding_dim: length of a vector.
        memory_gibibytes: memory for the vectors; the GPU's, if `on_gpu`.
        on_gpu: whether a GPU searches them.

    Returns:
        The most exact option first; Milvus, on several machines, last.
    """
    raw = embedding_dim * (2 if on_gpu else 4)
    lists = 2 ** round(math.log2(4 * math.sqrt(num_passages)))
    centroids = 4 * embedding_dim * lists / num_passages
    codes = max(1, embedding_dim // 4)
    options = [("torch", "Flat", raw, FLAT, "exact")]
    if on_gpu:
        options.append(("faiss", "CAGRA64", raw + CAGRA_BYTES, NOT_MEASURED, "lowest latency"))
    else:
        options.append(("faiss", "HNSW32", raw + GRAPH_BYTES, GRAPH, "lowest latency"))
        options.append(("faiss", "SQ8", embedding_dim, SCALAR, "a quarter of the memory; slow"))
    if num_passages >= VECTORS_PER_LIST * lists:
        options.append(
            ("faiss", f"IVF{lists},SQ8", embedding_dim + 8 + centroids, LISTS, "fast and small")
        )
        options.append(
            ("faiss", f"IVF{lists},PQ{codes}", codes + 8 + centroids, PRODUCT, "smallest")
        )
    options.append(
        ("milvus", "Flat", 4 * embedding_dim + GRAPH_BYTES, NOT_MEASURED, "several machines")
    )
    size = _nearest_size(num_passages)
    plans = [
        Plan(
            backend,  # type: ignore[arg-type]
            factory,
            round(num_passages * bytes_per_passage / GIBIBYTE, 3),
            measured.recalls[MEASURED_SIZES.index(size)],
            size if measured.recalls[0] else None,
            measured.setting,
            _minutes(measured, num_passages),
            why,
        )
        for backend, factory, bytes_per_passage, measured, why in options
    ]
    advised = next(each for each in plans if _suits(each, num_passages, memory_gibibytes, on_gpu))
    return [replace(each, is_advised=each is advised) for each in plans]


def _nearest_size(num_passages: int) -> int:
    """Return the measured size that is nearest by its ratio to the corpus."""
    return min(MEASURED_SIZES, key=lambda size: abs(math.log(num_passages / size)))


def _minutes(measured: Measured, num_passages: int) -> float | None:
    per_million = measured.build_minutes_per_million
    return None if per_million is None else round(per_million * num_passages / 1e6, 1)


def _suits(plan: Plan, num_passages: int, memory_gibibytes: float, on_gpu: bool) -> bool:
    if plan.backend == "milvus":
        return True
    scores_all = plan.factory in ("Flat", "SQ8")
    is_too_slow = scores_all and not on_gpu and num_passages > MAX_FLAT_ON_CPU
    return plan.gibibytes <= memory_gibibytes and not is_too_slow
