"""OpenVINO on the CPU: the fastest here at every batch size, exact in fp32, faster in bf16."""

from contextlib import ExitStack
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.pooling import POOLING
from service.retrieval.encoder.runtime.openvino.core import compile_graph
from service.retrieval.encoder.runtime.openvino.graph import Graph
from service.retrieval.hardware import available_cores

# A new shape costs bf16 3 to 5 ms of preparation, more than a few tokens of padding: 112 queries a
# second one by one for 85, 413 for 334 in eights. fp32 loses more than it gains.
WHOLE_MULTIPLES = {"bf16": 16}
PART_MULTIPLES = {"bf16": 8}
# A query alone has a graph of this one shape: 3.6 ms for 4.9, at 180 MiB of memory.
LONE_TOKENS = {"bf16": 32}
WARM_UP_TOKENS = (16, 32, 64, 256)
# From so many texts a core on, each core takes its part of a batch.
MIN_TEXTS_A_CORE = 4


class _Running:
    """How many batches run at the moment, on both sides of an encoder."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = Lock()


class OpenvinoRuntime:
    """A graph compiled for this CPU; pooling and norm in fp32, outside of the graph.

    All cores share the work on a few texts. On many, or where several batches run, each core has
    its own: none waits for another at each layer, and what else runs on a core delays one only.
    """

    def __init__(
        self,
        graph: Graph,
        pooling: str,
        precision: str,
        max_tokens: int,
        *,
        for_queries: bool = True,
        shared_with: "OpenvinoRuntime | None" = None,
    ) -> None:
        """Compile the graph, half a second's work for each way of running it.

        Args:
            graph: of the transformer after its embedding table.
            pooling: `mean`, `cls` or `lasttoken`.
            precision: `fp32`, `bf16` or `int8`.
            max_tokens: the encoder's own limit.
            for_queries: texts come alone and short; a passage side of its own needs no graph
                for that.
            shared_with: the other side's runtime, with which it shares the cores.
        """
        self.graph = graph
        self._table = graph.table
        self._pool = POOLING[pooling]
        self._max_tokens = max_tokens
        self._whole_multiple = WHOLE_MULTIPLES.get(precision, 1)
        self._part_multiple = PART_MULTIPLES.get(precision, 1)
        self._lone_tokens = min(LONE_TOKENS.get(precision, 0), max_tokens) if for_queries else 0
        self.num_slots = available_cores()
        self._whole = compile_graph(graph, precision).create_infer_request()
        if self._lone_tokens:
            lone = compile_graph(graph, precision, shape=(1, self._lone_tokens))
            self._lone = lone.create_infer_request()
        self._parts = compile_graph(graph, precision, num_streams=self.num_slots)
        self._idle_parts: list[Any] = []
        self._running: _Running = shared_with._running if shared_with else _Running()
        self._lock = Lock()
        self.device = torch.device("cpu")
        self.embedding_dim = int(graph.table.shape[1])
        self.name = f"openvino-{precision}"

    def warm_up(self, max_batch_tokens: int) -> None:
        """Run the largest batches on every core at once, so that memory finds its size."""
        for length in (length for length in WARM_UP_TOKENS if length <= self._max_tokens):
            count = max(1, max_batch_tokens // length) * self.num_slots
            ids = np.ones((count, length), np.int64)
            self._embed_parts(ids, np.ones_like(ids), self.num_slots)

    @torch.inference_mode()
    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D]; so many threads as there are slots may."""
        with self._running.lock:
            is_alone = self._running.count == 0
            self._running.count += 1
        try:
            if is_alone and len(token_ids) < MIN_TEXTS_A_CORE * self.num_slots:
                pooled = self._embed_whole(token_ids, attention_mask)
            else:
                num_parts = self.num_slots if is_alone else 1
                pooled = self._embed_parts(token_ids, attention_mask, num_parts)
        finally:
            with self._running.lock:
                self._running.count -= 1
        return torch.nn.functional.normalize(pooled, dim=-1)

    def _embed_whole(
        self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Tensor:
        request, (count, length) = self._whole, token_ids.shape
        padded = self._pad(length, self._whole_multiple)
        if count == 1 and length <= self._lone_tokens:
            request, padded = self._lone, self._lone_tokens
        request.infer(self._inputs(token_ids, attention_mask, padded), share_inputs=True)
        return self._pooled(request, attention_mask)

    def _embed_parts(
        self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], num_parts: int
    ) -> Tensor:
        parts = split(attention_mask.sum(axis=1), num_parts)
        masks = [attention_mask[rows, :length] for rows, length in parts]
        requests = []
        with ExitStack() as running:  # all are waited for, also where one fails
            for (rows, length), mask in zip(parts, masks, strict=True):
                padded = self._pad(length, self._part_multiple)
                inputs = self._inputs(token_ids[rows, :length], mask, padded, round_up(len(mask)))
                request = self._take_part()
                requests.append(request)
                request.start_async(inputs, share_inputs=True)
                running.callback(request.wait)
        pooled = [
            self._pooled(request, mask) for request, mask in zip(requests, masks, strict=True)
        ]
        self._idle_parts += requests
        return torch.cat(pooled)

    def _take_part(self) -> Any:
        with self._lock:
            if self._idle_parts:
                return self._idle_parts.pop()
        return self._parts.create_infer_request()

    def _pooled(self, request: Any, attention_mask: NDArray[np.int64]) -> Tensor:
        # The runtime's own memory, overwritten by the next batch: pooling makes a copy.
        hidden = torch.from_numpy(request.get_output_tensor(0).data)  # [B, L, H]
        mask = torch.from_numpy(attention_mask)
        return self._pool(hidden[: mask.shape[0], : mask.shape[1]], mask)

    def _pad(self, length: int, multiple: int) -> int:
        return pad_length(length, multiple, max(length, self._max_tokens))

    def _inputs(
        self,
        token_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        length: int,
        count: int | None = None,
    ) -> list[NDArray[Any]]:
        """Pad to a length, and to a count of texts; a text of padding alone is not looked at."""
        rows = (count or len(token_ids)) - len(token_ids)
        padding = ((0, rows), (0, length - token_ids.shape[1]))
        ids, mask = np.pad(token_ids, padding), np.pad(attention_mask, padding)
        if rows:
            mask[-rows:] = 1  # a softmax over nothing would be no number
        embedded = torch.nn.functional.embedding(torch.from_numpy(ids), self._table).float()
        return [embedded.numpy(), mask]


def round_up(count: int) -> int:
    """Round a number up to one of four in each octave.

    Each shape that a graph has met costs it a megabyte, and a new one time: with all counts of
    texts memory grew twice as far, and 68 s of mixed batches took as long as 62 s of rounded ones.

    >>> [round_up(count) for count in (1, 7, 9, 17, 33, 64)]
    [1, 7, 10, 20, 40, 64]
    """
    step: int = max(1, 2 ** (count.bit_length() - 3))
    return -(-count // step) * step


def pad_length(length: int, multiple: int, max_tokens: int) -> int:
    """Round a length up to one of four multiples in each octave; as it is where the multiple is 1.

    With every multiple of 8, 262 shapes came up in 56,000 batches of mixed traffic, more than a
    stream keeps (5,339 times one had to be made anew); with these 214 (591), for 1.6 % more tokens.

    >>> [pad_length(length, 8, 512) for length in (1, 33, 70, 129, 505)]
    [8, 40, 80, 160, 512]
    """
    if multiple == 1:
        return length
    return min(round_up(-(-length // multiple)) * multiple, max_tokens)


def split(lengths: NDArray[np.int64], num_parts: int) -> list[tuple[slice, int]]:
    """Cut a batch into parts of about as many tokens: which rows, and their longest text.

    >>> split(np.array([2, 2, 4, 8]), 2)
    [(slice(0, 3, None), 4), (slice(3, 4, None), 8)]
    """
    totals = lengths.cumsum()
    shares = totals[-1] * np.arange(1, num_parts) / num_parts
    bounds = [0, *(np.searchsorted(totals, shares) + 1).tolist(), len(lengths)]
    return [
        (slice(start, end), int(lengths[start:end].max()))
        for start, end in zip(bounds, bounds[1:], strict=False)
        if start < end
    ]
