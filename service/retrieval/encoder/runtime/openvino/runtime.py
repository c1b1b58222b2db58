"""The OpenVINO runtime: the fastest on a CPU at every batch size; fp32 is torch's to 1e-6."""

from contextlib import ExitStack
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.batches import Shape, are_parts
from service.retrieval.encoder.head import Head
from service.retrieval.encoder.runtime.openvino.core import compile_graph, output_dim, read_graph
from service.retrieval.encoder.runtime.openvino.graph import Graph
from service.retrieval.encoder.runtime.openvino.inputs import padded_inputs, token_positions
from service.retrieval.encoder.runtime.openvino.packing import pack_graph
from service.retrieval.encoder.runtime.openvino.shapes import pad_length, split
from service.retrieval.hardware import available_cores

# bf16 prepares a new shape in 3 to 5 ms, more than a few tokens of padding cost: with padding 112
# queries a second one by one instead of 85. fp32 loses more than it gains.
WHOLE_MULTIPLES = {"bf16": 16}
# In a stream only attention computes padding: few shapes cost nothing, and memory stays flat. Not
# in fp32: padding changes how attention sums, and bits must not depend on other texts.
PART_MULTIPLES = {"fp32": 1, "bf16": 8, "int8": 8}
# Passages of a build, but in fp32: padded to multiples, in batches of so many tokens.
PASSAGE_MULTIPLE, PASSAGE_TOKENS = 8, 512
# A single query has a graph of this static shape: 3.6 ms instead of 4.9, for 180 MiB of memory.
LONE_TOKENS = {"bf16": 32}
WARM_UP_TOKENS = (16, 256)
# Each compiled graph has a copy of the weights in its order, which its streams share. A larger one
# is compiled once, for all cores, which hardly wait for each other at its layers. The bundled graph
# (86 MB) compiled once answers .92 as many requests of 64 clients, for 185 to 240 MiB less.
MAX_COPIED_BYTES = 256 * 2**20
# From this many texts a core, a batch is split among the cores.
MIN_TEXTS_A_CORE = 4
# Of several texts, a stream keeps the memory of its largest batch: in fp32 26 KiB a token.
PART_TOKENS = 512


class _Running:
    """The number of batches that run at the moment on both sides of an encoder."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = Lock()


class OpenvinoRuntime:
    """A graph compiled for this CPU; the head is computed in fp32 outside of the graph.

    All cores compute a small batch together. A large batch is split among them, and of several
    batches at once each runs on one core: cores then do not wait for each other at each layer.
    So that there is one copy of its weights, a graph of passages alone always computes a text on
    one core, and a graph over `MAX_COPIED_BYTES` a batch at a time on all cores.
    """

    def __init__(
        self,
        graph: Graph,
        head: Head,
        precision: str,
        max_tokens: int,
        *,
        for_queries: bool = True,
        shared_with: "OpenvinoRuntime | None" = None,
    ) -> None:
        """Compile the graph: once if it is large or embeds no queries, else two or three times.

        Args:
            graph: graph of the transformer after its embedding table.
            head: makes embeddings of the hidden states.
            precision: `fp32`, `bf16` or `int8`.
            max_tokens: tokens of the longest text.
            for_queries: whether to compile graphs for single texts, too, on all cores; a passage
                side of its own has one graph, with a stream for each core.
            shared_with: the other side's runtime, with which the cores are shared.
        """
        self.graph = graph
        self._table = graph.table
        self.head = head
        self._max_tokens = max_tokens
        self._is_exact = precision == "fp32"
        self._whole_multiple = WHOLE_MULTIPLES.get(precision, 1)
        self._part_multiple = PART_MULTIPLES[precision]
        self._has_streams = graph.weight_bytes <= MAX_COPIED_BYTES
        self._has_whole = for_queries or not self._has_streams
        has_lone = self._has_streams and for_queries
        self._lone_tokens = min(LONE_TOKENS.get(precision, 0), max_tokens) if has_lone else 0
        self._num_cores = available_cores()
        # One more than there are streams, so that a batch waits while another one is searched.
        self.num_slots = self._num_cores + 1 if self._has_streams else 1
        model = read_graph(graph, precision)
        packed = pack_graph(model)
        if self._has_whole:
            compiled = compile_graph(model if self._has_streams else packed, precision)
            self._whole = compiled.create_infer_request()
        if self._lone_tokens:
            lone = compile_graph(model, precision, shape=(1, self._lone_tokens))
            self._lone = lone.create_infer_request()
        if self._has_streams:
            self._parts = compiled = compile_graph(packed, precision, num_streams=self._num_cores)
        self._idle_parts: list[Any] = []
        self._running: _Running = shared_with._running if shared_with else _Running()
        self._lock = Lock()
        self.device = torch.device("cpu")
        # The table may be narrower than the transformer (ALBERT, ELECTRA).
        self.embedding_dim = head.output_dim(output_dim(compiled))
        # Graphs converted by way of ONNX were `openvino-*`: their vectors differ in the last bits.
        self.name = f"openvino-ir-{precision}"

    def passage_shape(self, length: int) -> Shape | None:
        """Return the only shape of passages of a length; None in fp32, equal in all shapes.

        Other precisions round by the kernels that OpenVINO chooses for a shape.
        """
        if self._is_exact:
            return None
        padded = self._pad(length, PASSAGE_MULTIPLE)
        return Shape(max(1, PASSAGE_TOKENS // padded), padded)

    def warm_up(self, max_batch_tokens: int) -> None:
        """Run the largest batches on every core at once, so that memory reaches its final size."""
        if not (self._has_streams and self._has_whole):
            return
        for length in (length for length in WARM_UP_TOKENS if length <= self._max_tokens):
            count = max(1, min(max_batch_tokens, PART_TOKENS) // length) * self._num_cores
            ids = np.ones((count, length), np.int64)
            self._embed_parts(ids, np.ones_like(ids), self._num_cores)

    @torch.inference_mode()
    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D], in at most `num_slots` threads at once."""
        with self._running.lock:
            is_alone = self._running.count == 0
            self._running.count += 1
        try:
            is_small = len(token_ids) < MIN_TEXTS_A_CORE * self._num_cores
            is_small &= len(token_ids) == 1 or token_ids.size <= PART_TOKENS
            if are_parts(token_ids, attention_mask):
                embeddings = self._embed_unsplit(token_ids, attention_mask, is_alone, 1)
            elif self._is_fixed(token_ids):
                embeddings = self._embed_unsplit(token_ids, attention_mask, is_alone)
            elif self._has_whole and (not self._has_streams or (is_alone and is_small)):
                embeddings = self._embed_whole(token_ids, attention_mask)
            else:
                num_parts = self._num_cores if is_alone else 1
                embeddings = self._embed_parts(token_ids, attention_mask, num_parts)
        finally:
            with self._running.lock:
                self._running.count -= 1
        return embeddings

    def _is_fixed(self, token_ids: NDArray[np.int64]) -> bool:
        """Return whether a batch has the only shape of passages of its length."""
        shape = Shape(*token_ids.shape)
        return shape == self.passage_shape(shape.length)

    def _embed_unsplit(
        self,
        token_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        is_alone: bool,
        num_rows: int | None = None,
    ) -> Tensor:
        """Embed a batch in one shape, by all cores if it is alone and they can, else by one.

        Args:
            token_ids: [B, L].
            attention_mask: [B, L].
            is_alone: whether no other batch runs.
            num_rows: 1 for parts of one text, a row of the mask each: one pass computes them.
        """
        is_whole_free = self._has_whole and (is_alone or not self._has_streams)
        request = self._whole if is_whole_free else self._take_part()
        length = token_ids.shape[1]
        padded = length if num_rows is None else self._pad(length, self._whole_multiple)
        inputs = self._inputs(
            request, token_ids[:num_rows], attention_mask[:num_rows], padded, keeps_padding=True
        )
        request.infer(inputs, share_inputs=True)
        embeddings = self._apply_head(request, attention_mask)
        if not is_whole_free:
            self._idle_parts.append(request)
        return embeddings

    def _embed_whole(
        self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Tensor:
        request, (count, length) = self._whole, token_ids.shape
        padded = self._pad(length, self._whole_multiple)
        if count == 1 and length <= self._lone_tokens:
            request, padded = self._lone, self._lone_tokens
        inputs = self._inputs(request, token_ids, attention_mask, padded)
        request.infer(inputs, share_inputs=True)
        return self._apply_head(request, attention_mask)

    def _embed_parts(
        self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], num_parts: int
    ) -> Tensor:
        lengths = np.count_nonzero(attention_mask, axis=1)
        parts = split(lengths, max(num_parts, -(-int(lengths.sum()) // PART_TOKENS)))
        masks = [attention_mask[rows, :length] for rows, length in parts]
        requests = []
        with ExitStack() as running:  # waits for all, even if one fails
            for (rows, length), mask in zip(parts, masks, strict=True):
                request = self._take_part()
                padded = self._pad(length, self._part_multiple)
                inputs = self._inputs(request, token_ids[rows, :length], mask, padded)
                requests.append(request)
                request.start_async(inputs, share_inputs=True)
                running.callback(request.wait)
        embeddings = [
            self._apply_head(request, mask) for request, mask in zip(requests, masks, strict=True)
        ]
        self._idle_parts += requests
        return torch.cat(embeddings)

    def _take_part(self) -> Any:
        with self._lock:
            if self._idle_parts:
                return self._idle_parts.pop()
        return self._parts.create_infer_request()

    def _apply_head(self, request: Any, attention_mask: NDArray[np.int64]) -> Tensor:
        # The tensor is OpenVINO's own, overwritten by the next batch: pooling makes a copy.
        hidden = torch.from_numpy(request.get_output_tensor(0).data)  # [B, L, H]
        mask = torch.from_numpy(attention_mask)
        hidden = hidden[: mask.shape[0], : mask.shape[1]].expand(len(mask), -1, -1)
        embeddings: Tensor = self.head(hidden, mask)
        return embeddings

    def _pad(self, length: int, multiple: int) -> int:
        return pad_length(length, multiple, max(length, self._max_tokens))

    def _inputs(
        self,
        request: Any,
        token_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        length: int,
        keeps_padding: bool = False,
    ) -> list[NDArray[Any]]:
        """Pad to a length; a packed graph computes only tokens, unless padding is kept."""
        attended = self.head.attended(torch.from_numpy(attention_mask)).numpy()
        inputs = padded_inputs(token_ids, attended, self._table, length)
        if len(request.model_inputs) > len(inputs):  # packed
            inputs += token_positions(inputs[1], keeps_padding)
        return inputs
