"""The transformer on an NVIDIA GPU: half precision, few shapes, one CUDA graph a shape.

On a CPU the same code runs in fp32 without graphs and pinned memory, so that tests there cover its
padding. No GPU has run it yet.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from service.retrieval.encoder.batches import Shape
from service.retrieval.encoder.head import Head
from service.retrieval.encoder.runtime.cuda.buckets import pieces, shapes_to_prepare
from service.retrieval.encoder.runtime.cuda.graph import Slot
from service.retrieval.encoder.runtime.torch import TorchRuntime, hidden_dim_of
from service.retrieval.encoder.runtime.weights import round_parameters, share_parameters

MAX_BATCH_TOKENS = 16_384
# Of graphs to the same kernels without them: only a wrong mask or a fixed branch explains less.
MIN_COSINE = 0.999
PRECISION_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class CudaRuntime:
    """A transformers model on a GPU in half precision; pooling and norm in fp32.

    A batch is padded to one of the shapes in `buckets`; a larger batch is split. Each shape has its
    own buffers and graph, made by `warm_up` or at the shape's first batch.
    """

    num_slots = 1  # the buffers hold one batch

    def __init__(
        self,
        model: PreTrainedModel,
        head: Head,
        device: torch.device,
        *,
        max_tokens: int,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        shared_with: "CudaRuntime | None" = None,
        changed: Collection[str] | None = None,
    ) -> None:
        """Move the model to the device.

        Args:
            model: moved and rounded in place; the caller must not use it afterwards.
            head: makes embeddings of the hidden states; moved in place.
            device: a CUDA device; in tests, the CPU.
            max_tokens: tokens of the longest text, special tokens included.
            max_batch_tokens: padded tokens that run at once at most; `warm_up` replaces it.
            shared_with: the other side's runtime, with which equal weights, the stream and the
                graphs' memory are shared; one thread at a time may use the two.
            changed: parameters that differ from the other side's, if known.
        """
        precision = precision_on(device)
        round_parameters(model, precision)
        self._model = model.to(device).eval()  # type: ignore[arg-type]
        if shared_with is not None:
            share_parameters(self._model, shared_with._model, changed)
        self.head = head.to(device)
        self._pad_id = int(getattr(model.config, "pad_token_id", None) or 0)
        self._max_tokens = max_tokens
        self._max_batch_tokens = max_batch_tokens
        self._slots: dict[Shape, Slot] = {}
        self._shared_with = shared_with
        self._stream: torch.cuda.Stream | None = shared_with._stream if shared_with else None
        if device.type == "cuda" and self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.device = device
        self.embedding_dim = self.head.output_dim(hidden_dim_of(self._model, device))
        self.name = f"torch-graphs-{PRECISION_NAMES[precision]}"

    @property
    def shapes(self) -> frozenset[Shape]:
        """Return the shapes that are prepared."""
        return frozenset(self._slots)

    def passage_shape(self, length: int) -> Shape | None:
        """Return None: `bulk` knows the shapes of a GPU, with and without graphs."""

    @torch.inference_mode()
    def graph_violation(self) -> str | None:
        """Return why graphs do not compute what the model does without them, or None if they do.

        Raises:
            torch.cuda.OutOfMemoryError: the device has too little memory.
        """
        token_ids = np.array([[2, 3, 4, 5], [3, 2, self._pad_id, self._pad_id]])
        mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
        expected = self._forward(
            *(torch.from_numpy(array).to(self.device) for array in (token_ids, mask))
        )
        try:
            cosines = (self.embed(token_ids, mask) * expected).sum(dim=-1)
            least = float(cosines.min())
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of the capture
            self._slots.clear()
            return next(iter(str(error).strip().splitlines()), type(error).__name__)
        return None if least >= MIN_COSINE else f"their cosine to it is {least:.5f}"

    def without_graphs(self) -> TorchRuntime:
        """Return a plain runtime of the same model; this runtime must not be used afterwards."""
        return TorchRuntime(self._model, self.head, self.device)

    @torch.inference_mode()
    def warm_up(self, max_batch_tokens: int) -> None:
        """Prepare every shape of texts up to `MAX_TRIAL_TOKENS`, and run each once.

        Longer texts run without a graph.

        The largest comes first: if it fits in memory, the others do, too, as graphs share memory.

        Args:
            max_batch_tokens: padded tokens that run at once at most, from now on.

        Raises:
            torch.cuda.OutOfMemoryError: the device has too little memory.
        """
        self._max_batch_tokens = max_batch_tokens
        with self._own_stream():
            for shape in shapes_to_prepare(self._max_tokens, max_batch_tokens):
                self._slot(shape).run()
        if self._stream is not None:
            self._stream.synchronize()  # raises a device's fault here, not in a request

    @torch.inference_mode()
    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D]; may return before the device is done.

        Raises:
            torch.cuda.OutOfMemoryError: memory is too small for a shape not yet prepared.
            ValueError: L is over the limit of tokens.
        """
        num_rows, length = token_ids.shape
        # Allocated on the caller's stream, the only one that may still read it when it is freed.
        embeddings = torch.empty(
            (num_rows, self.embedding_dim), dtype=torch.float32, device=self.device
        )
        with self._own_stream():
            for rows, shape in pieces(num_rows, length, self._max_tokens, self._max_batch_tokens):
                slot = self._slot(shape)
                slot.fill(token_ids[rows], attention_mask[rows])
                embeddings[rows] = slot.run()[: rows.stop - rows.start]
        return embeddings

    def _slot(self, shape: Shape) -> Slot:
        if shape not in self._slots:
            slots = [
                *self._slots.values(),
                *(self._shared_with._slots.values() if self._shared_with else ()),
            ]
            neighbor = slots[0] if slots else None
            self._slots[shape] = Slot(shape, self._forward, self._pad_id, self.device, neighbor)
        return self._slots[shape]

    def _forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        attended = self.head.attended(mask)
        hidden = self._model(input_ids=token_ids, attention_mask=attended).last_hidden_state
        embeddings: Tensor = self.head(hidden, mask)
        return embeddings

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Run on the runtime's stream, between earlier and later work of the caller's stream."""
        if self._stream is None:
            yield
            return
        callers = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(callers)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:  # after an error, too: its tensors are freed on the caller's stream
            callers.wait_stream(self._stream)


def precision_on(device: torch.device) -> torch.dtype:
    """Return the precision of the device's matrix units."""
    if device.type != "cuda":
        return torch.float32
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:
        return torch.bfloat16
    return torch.float16 if major == 7 else torch.float32
