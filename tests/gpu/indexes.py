"""Steps that measure indexes on the GPU."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.torch_flat import TorchFlatIndex
from tests.bench.vectors import Vectors
from tests.gpu.material import seconds_of
from tests.gpu.step import Machine, Result, Skip

DIM, TOP_K, BATCH = 384, 10, 64
# The CPU trains the lists, which takes longest.
FACTORIES = ("Flat", "CAGRA64", "IVF4096,PQ96")
DRY_FACTORIES = ("Flat", "IVF16,PQ16")


def flat(machine: Machine) -> Result:
    """Measure `torch_flat`: share of the memory's bandwidth at batch 1, top-k's share, speed."""
    counts = [machine.size(millions * 10**6, millions * 1000) for millions in (1, 10, 50)]
    return {str(count): _measure_flat(count, machine) for count in counts}


def _measure_flat(count: int, machine: Machine) -> Result:
    index = _flat_of(count, machine)
    vectors = index._vectors
    copied = _copied_a_second(vectors, machine)
    queries = _unit(BATCH, machine)
    return {
        "copy_gb_per_second": copied / 1e9,
        **{f"batch_{size}": _speed(index, queries[:size], copied, machine) for size in (1, BATCH)},
    }


def _speed(index: TorchFlatIndex, queries: Tensor, copied: float, machine: Machine) -> Result:
    vectors = index._vectors
    cast = queries.to(vectors.dtype)
    whole = seconds_of(machine, lambda: index.search(queries, TOP_K))
    bare = seconds_of(machine, lambda: cast @ vectors.T)
    return {
        "milliseconds": whole * 1000,
        "queries_per_second": len(queries) / whole,
        "share_of_copy_bandwidth": vectors.numel() * vectors.element_size() / whole / copied,
        "share_beside_product": 1 - bare / whole,
    }


def _copied_a_second(vectors: Tensor, machine: Machine) -> float:
    """Return the bytes that a copy reads and writes in a second."""
    source = vectors[: len(vectors) // 2]
    target = torch.empty_like(source)
    seconds = seconds_of(machine, lambda: target.copy_(source))
    return 2 * source.numel() * source.element_size() / seconds


def faiss(machine: Machine) -> Result:
    """Measure FAISS: build time, recall@10 against exact search, queries a second."""
    if not machine.is_dry and not has_gpu_faiss():
        raise Skip("faiss is without GPUs here: pip install faiss-gpu-cuvs")
    vectors, queries, exact = _clustered(machine)
    found: dict[str, Any] = {}
    for factory in DRY_FACTORIES if machine.is_dry else FACTORIES:
        found[factory] = _measure_faiss(factory, vectors, queries, exact, machine)
        machine.keep(found)
    return found


def _clustered(machine: Machine) -> tuple[Vectors, Vectors, list[Any]]:
    """Draw vectors around centers on the device, questions, and each question's nearest rows."""
    count, num_centers = machine.size(10**6, 2000), machine.size(4096, 16)
    places = torch.randint(num_centers, (count,), device=machine.device)
    vectors = _unit(num_centers, machine)[places].mul_(DIM**0.5)
    vectors += 0.7 * torch.randn(count, DIM, device=machine.device)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    queries = vectors[:1000] + 0.02 * torch.randn(1000, DIM, device=machine.device)
    queries = torch.nn.functional.normalize(queries, dim=1)
    nearest = [(part @ vectors.T).topk(TOP_K).indices for part in queries.split(100)]
    exact = torch.cat(nearest).tolist()
    return vectors.cpu().numpy(), queries.cpu().numpy(), exact


def _measure_faiss(
    factory: str, vectors: Vectors, queries: Vectors, exact: list[Any], machine: Machine
) -> Result:
    path = machine.work / f"{factory}.faiss"
    started = time.perf_counter()
    build_faiss_index(vectors, factory, path, device=machine.device)
    built = time.perf_counter() - started
    index = open_faiss_index(path, machine.device)
    ranked = index.search(queries, TOP_K)
    pairs = zip(ranked, exact, strict=True)
    hits = sum(len(set(each.rows.tolist()) & set(rows)) for each, rows in pairs)
    return {
        "build_seconds": built,
        "recall_at_10": hits / TOP_K / len(queries),
        "queries_per_second": BATCH
        / seconds_of(machine, lambda: index.search(queries[:BATCH], TOP_K)),
    }


def has_gpu_faiss() -> bool:
    """Return whether the installed FAISS can use a GPU."""
    from service.retrieval.index.faiss.library import FAISS

    return hasattr(FAISS, "StandardGpuResources")


def _flat_of(count: int, machine: Machine) -> TorchFlatIndex:
    """Return an index of random vectors, which are drawn on the device."""
    index = TorchFlatIndex(np.empty((0, DIM), np.float32), torch.device(machine.device))
    vectors = torch.empty(count, DIM, dtype=index._vectors.dtype, device=machine.device)
    for start in range(0, count, 2**20):
        block = vectors[start : start + 2**20]
        block.copy_(_unit(len(block), machine))
    index._vectors = vectors
    return index


def _unit(count: int, machine: Machine) -> Tensor:
    drawn = torch.randn(count, DIM, device=machine.device)
    return torch.nn.functional.normalize(drawn, dim=1)
