"""The exact backend: one matrix product and a top-k, on a GPU or, in fp32, on the CPU.

On a GPU, the embeddings of queries stay on the device. Not yet run on a GPU.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.errors import DeviceError
from service.retrieval.index.backend import (
    Ranking,
    Selected,
    VectorIndex,
    best_candidates,
    empty_ranking,
    group_by_selection,
    inner_products,
)
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.index.sharded import ShardedIndex

UPLOAD_ROWS = 65_536
# Similarities per tile: 256 MiB of fp32 on a GPU, where a million vectors are one tile for up to 64
# queries; 8 MiB on the CPU, whose caches hold them while the best are found.
TILE_SCORES = {"cuda": 2**26, "cpu": 2**21}


class TorchFlatIndex:
    """Exact search of vectors in fp16 (on the CPU, fp32), behind the protocol `VectorIndex`.

    Similarities are summed and returned in fp32. Queries with different filters share the matrix
    product. Several threads may search at the same time.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        device: torch.device,
        tile_scores: int | None = None,
        owner: object = None,
    ) -> None:
        """Copy vectors to a device.

        Args:
            vectors: unit-norm, [N, D].
            device: the device that searches them.
            tile_scores: similarities in memory at the same time; those of `TILE_SCORES` by default.
            owner: of the vectors' memory, in which they are left, in fp32 on the CPU.

        Raises:
            DeviceError: the vectors do not fit in the device's memory.
        """
        self._tile_scores, self._owner = tile_scores or TILE_SCORES[device.type], owner
        if owner is not None:
            self._vectors = torch.from_numpy(vectors)
            return
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        try:
            self._vectors = torch.empty(vectors.shape, dtype=dtype, device=device)
        except torch.cuda.OutOfMemoryError:
            raise DeviceError(
                f"{len(vectors)} vectors of {vectors.shape[1]} need "
                f"{vectors.size * dtype.itemsize / 2**30:.1f} GiB free on {device}: use a larger "
                "GPU, or build the index with a smaller --factory, such as IVF65536,SQ8"
            ) from None
        for start in range(0, len(vectors), UPLOAD_ROWS):
            block = torch.tensor(np.ascontiguousarray(vectors[start : start + UPLOAD_ROWS]))
            self._vectors[start : start + len(block)] = block

    @property
    def count(self) -> int:
        """Return the number of vectors."""
        return self._vectors.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Return the length of a vector."""
        return self._vectors.shape[1]

    @torch.inference_mode()
    def search(
        self,
        queries: NDArray[np.float32] | Tensor,
        top_k: int,
        selected: Selected = None,
    ) -> list[Ranking]:
        """Find each query's nearest vectors among those selected for it.

        Args:
            queries: unit-norm, [B, D]; a tensor on the index's device is not copied off it.
            top_k: 1 to `MAX_TOP_K`.
            selected: one selection per query, None for all vectors; or None, to search all
                vectors for every query.
        """
        if self.count == 0 or len(queries) == 0:
            return [empty_ranking()] * len(queries)
        if not isinstance(queries, Tensor):
            queries = torch.tensor(np.ascontiguousarray(queries, dtype=np.float32))
        queries = queries.to(self._vectors.device, self._vectors.dtype)
        found = self._nearest(queries, top_k, self._hidden(selected))
        # One copy off the device for both: float64 holds a score and any row exactly.
        scores, rows = torch.stack([each.double() for each in found]).cpu().numpy()
        order = np.lexsort((rows, -scores))[:, :top_k]  # equal scores by rising row
        scores = np.take_along_axis(scores, order, 1).astype(np.float32)
        rows = np.take_along_axis(rows, order, 1).astype(np.int64)
        if selected is None:
            return [Ranking(*pair) for pair in zip(scores, rows, strict=True)]
        return [
            Ranking(*pair).first(self.count if each is None else each.count)
            for *pair, each in zip(scores, rows, selected, strict=True)
        ]

    def _hidden(self, selected: Selected) -> list[tuple[Tensor, list[int]]]:
        """Return, for each filter, a mask of the vectors it excludes, [N], and its queries."""
        groups = group_by_selection(selected, len(selected or ()))
        return [
            (torch.from_numpy(~selection.mask).to(self._vectors.device), group)
            for selection, group in groups
            if selection is not None
        ]

    def _nearest(
        self, queries: Tensor, top_k: int, hidden: list[tuple[Tensor, list[int]]]
    ) -> tuple[Tensor, Tensor]:
        """Return the best of each tile of the vectors: scores and rows, both [B, C], unordered."""
        tile_rows = max(1, self._tile_scores // len(queries))
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, self.count, tile_rows):
            similarities = _inner_products(queries, self._vectors[start : start + tile_rows])
            for mask, group in hidden:
                for query in group:  # one view per query: indexing by a list would copy
                    similarities[query].masked_fill_(mask[start : start + tile_rows], -torch.inf)
            scores, columns = best_candidates(similarities, top_k)
            found.append((scores, columns + start if start else columns))
        return found[0] if len(found) == 1 else _joined(found)


def open_torch_flat(path: Path, device: str = "cuda", is_mapped: bool = False) -> VectorIndex:
    """Copy the vectors of a flat FAISS index file to a device, or split them among several.

    Args:
        path: the file; its hash must have been checked.
        device: `cpu`, `cuda` or `cuda:N`; several are separated by commas.
        is_mapped: leave the vectors in the file, on the CPU.

    Raises:
        GenerationError: the file is not a flat FAISS index.
        DeviceError: a device does not exist, or its memory is too small.
    """
    devices = [torch.device(name.strip()) for name in device.split(",")]
    for found in devices:
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise DeviceError(
                f"the index is to be searched on {found}, and the machine has "
                f"{torch.cuda.device_count()} CUDA devices: set CLEAR_DEVICE=cpu, or fix the driver"
            )
    if is_mapped and device == "cpu":
        opened = flat_vectors(path)
        return TorchFlatIndex(opened.__enter__(), devices[0], owner=opened)
    with flat_vectors(path) as vectors:
        parts = np.array_split(vectors, len(devices))
        shards = [TorchFlatIndex(*pair) for pair in zip(parts, devices, strict=True)]
    return shards[0] if len(shards) == 1 else ShardedIndex(shards)


def _joined(tiles: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the candidates of all tiles side by side."""
    scores, rows = zip(*tiles, strict=True)
    return torch.cat(scores, dim=1), torch.cat(rows, dim=1)


def _inner_products(queries: Tensor, vectors: Tensor) -> Tensor:
    """Multiply [B, D] by [T, D] to [B, T] in fp32."""
    if vectors.dtype == torch.float32:
        return inner_products(queries, vectors)
    # Not `@`: its fp16 result would round similarities near 1 to steps of 0.0005, and make ties.
    return torch.mm(queries, vectors.T, out_dtype=torch.float32)
