"""The buffers of one shape and, on a GPU, the CUDA graph that reads and writes them.

The graph replays the whole forward pass as one launch. No GPU has run it yet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.batches import MAX_TRIAL_TOKENS, Shape

CUDA_ERROR_MEMORY_ALLOCATION = 2
# Token ids and mask, both [B, L], to embeddings [B, D].
Forward = Callable[[Tensor, Tensor], Tensor]


class Slot:
    """Buffers of one padded batch, and the forward pass over them.

    Everything runs on the caller's current stream, which must be the same each time.
    """

    def __init__(
        self,
        shape: Shape,
        forward: Forward,
        pad_id: int,
        device: torch.device,
        neighbor: "Slot | None" = None,
    ) -> None:
        """Allocate the buffers and, on a GPU and for texts up to `MAX_TRIAL_TOKENS`, the graph.

        Args:
            shape: shape of the buffers.
            forward: uses only the device's memory, and launches the same kernels for any input.
            pad_id: id of the padding token.
            device: runs `forward`.
            neighbor: a slot to share the graphs' memory with; the two must not run at once.

        Raises:
            torch.cuda.OutOfMemoryError: the device has too little memory.
        """
        is_cuda = device.type == "cuda"
        size = (2, shape.num_rows, shape.length)  # token ids over mask: one copy for both
        self._forward = forward
        self._pad_id = pad_id
        self._host = torch.empty(size, dtype=torch.int64, pin_memory=is_cuda)
        self._inputs = torch.empty(size, dtype=torch.int64, device=device)
        self._copied = torch.cuda.Event() if is_cuda else None  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._output: Tensor | None = None
        nothing = np.empty((0, 0), dtype=np.int64)
        self.fill(nothing, nothing)
        if is_cuda and shape.length <= MAX_TRIAL_TOKENS:
            self._capture(neighbor)

    def fill(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> None:
        """Copy texts, [b, l], into the first rows and fill the rest with padding."""
        num_rows, length = token_ids.shape
        if self._copied is not None:
            self._copied.synchronize()  # the previous copy may still read the host's buffer
        ids, mask = self._host.numpy()
        ids.fill(self._pad_id)
        mask.fill(0)
        mask[num_rows:, 0] = 1  # attention to no token at all gives NaN
        ids[:num_rows, :length] = token_ids
        mask[:num_rows, :length] = attention_mask
        self._inputs.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def run(self) -> Tensor:
        """Embed the buffers: [B, D], padding rows included; the next run overwrites the result."""
        if self._graph is None or self._output is None:
            return self._compute()
        self._graph.replay()
        return self._output

    def _compute(self) -> Tensor:
        token_ids, mask = self._inputs
        return self._forward(token_ids, mask)

    def _capture(self, neighbor: "Slot | None") -> None:
        # Run once without a graph: a kernel's first use loads it, which a capture may not do. The
        # padding's mask has zeros. With ones alone transformers would drop the mask here, and run
        # other kernels than in the capture, where it cannot read the mask.
        self._compute()
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(
            graph,
            # Take the pool from a live graph, never from a stored handle: PyTorch asserts on a
            # pool without a live graph, for instance after the first capture ran out of memory.
            pool=neighbor._graph.pool() if neighbor and neighbor._graph else None,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",  # another thread may be loading an index
        )
        with out_of_memory_by_name(), capture:
            self._output = self._compute()
        self._graph = graph


@contextmanager
def out_of_memory_by_name() -> Iterator[None]:
    """Raise OutOfMemoryError if a capture's end hides it or CUDA raises another error for it."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
            raise error.__context__ from None
        if getattr(error, "error_code", None) == CUDA_ERROR_MEMORY_ALLOCATION:
            raise torch.cuda.OutOfMemoryError(str(error)) from error
        raise
