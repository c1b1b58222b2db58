"""One shape's buffers and, on a GPU, the CUDA graph that reads and writes them.

The graph replays the whole forward pass as one launch. No GPU has run it yet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.runtime.cuda.buckets import Shape

CUDA_ERROR_MEMORY_ALLOCATION = 2
# Token ids and mask, both [B, L], to embeddings [B, D].
Forward = Callable[[Tensor, Tensor], Tensor]


class Slot:
    """Room for one padded batch, and the forward pass over it.

    Everything runs on the stream that is current where it is called, the same each time.
    """

    def __init__(
        self,
        shape: Shape,
        forward: Forward,
        pad_id: int,
        device: torch.device,
        neighbor: "Slot | None" = None,
    ) -> None:
        """Allocate the buffers and, on a GPU, capture the graph.

        Args:
            shape: of the buffers.
            forward: reads and writes the device only, and does the same whatever it reads.
            pad_id: the token id of padding.
            device: where `forward` runs.
            neighbor: a slot to share the graphs' memory with; one of the two runs at a time.

        Raises:
            torch.cuda.OutOfMemoryError: the device's memory is too small.
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
        if is_cuda:
            self._capture(neighbor)

    def fill(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> None:
        """Put texts, [b, l], into the first rows, and padding into all else."""
        num_rows, length = token_ids.shape
        if self._copied is not None:
            self._copied.synchronize()  # the last copy may still read the host's buffer
        ids, mask = self._host.numpy()
        ids.fill(self._pad_id)
        mask.fill(0)
        mask[num_rows:, 0] = 1  # attention to no token at all is NaN
        ids[:num_rows, :length] = token_ids
        mask[:num_rows, :length] = attention_mask
        self._inputs.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def run(self) -> Tensor:
        """Embed what was filled in: [B, D], padding rows included, overwritten by the next run."""
        if self._graph is None or self._output is None:
            return self._compute()
        self._graph.replay()
        return self._output

    def _compute(self) -> Tensor:
        token_ids, mask = self._inputs
        return self._forward(token_ids, mask)

    def _capture(self, neighbor: "Slot | None") -> None:
        # Once without a graph: a kernel's first use loads it, which a capture may not do. The
        # mask of padding has zeros, without which transformers leaves the mask out: not the
        # kernels that are captured, where it cannot look into the mask.
        self._compute()
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(
            graph,
            # The pool of a live graph, never a handle that is kept: PyTorch asserts on a pool
            # whose graphs have all died, as where the first capture ran out of memory.
            pool=neighbor._graph.pool() if neighbor and neighbor._graph else None,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",  # another thread may load an index meanwhile
        )
        with _out_of_memory_by_name(), capture:
            self._output = self._compute()
        self._graph = graph


@contextmanager
def _out_of_memory_by_name() -> Iterator[None]:
    """Raise OutOfMemoryError where a capture's end hides it, or CUDA words it otherwise."""
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
