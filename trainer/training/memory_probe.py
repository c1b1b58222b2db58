"""The memory probe: how many texts fit into memory in one forward and backward pass."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from service.retrieval.errors import MemoryShortError
from service.retrieval.hardware import free_bytes
from trainer.errors import ConfigError
from trainer.training.model import TrainableEncoder

# Share of the free memory to use; the rest is for the optimizer and as a reserve.
USABLE_SHARE = 0.6
UNKNOWN_FREE_BYTES = 4 * 2**30


def probe_micro_batch(
    trainable: TrainableEncoder, batch_rows: int, columns: Mapping[str, Sequence[str]]
) -> int:
    """Find the largest micro-batch of the run's longest text that fits into memory.

    On a GPU, the size is doubled until a pass runs out of memory. On a CPU, where that would end
    the process, the memory of a text is estimated from a small pass and one four times as large.

    Args:
        trainable: the encoder.
        batch_rows: the limit.
        columns: the texts that the run embeds.

    Returns:
        Texts of a micro-batch: a power of two, or the whole batch.
    """
    longest = max((text for texts in columns.values() for text in texts), key=len)
    device = trainable.base.device
    reserve = step_bytes(trainable.model) if device.type == "cuda" else 0

    def run_pass(count: int) -> None:
        _held = torch.empty(reserve, dtype=torch.uint8, device=device)  # until the pass ends
        trainable.model.train()
        features = trainable.model.preprocess([longest] * count)
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        is_bf16 = trainable.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            embeddings = trainable.model(moved)["sentence_embedding"]
        with dropping_gradients(trainable.model):
            embeddings.sum().backward()

    if device.type == "cuda":
        return largest_that_fits(run_pass, batch_rows)
    return count_within(lambda count: peak_bytes(run_pass, count), _free_bytes(), batch_rows)


def largest_that_fits(run_pass: Callable[[int], None], limit: int) -> int:
    """Double the size from 1 until a pass runs out of memory; return the last that fitted.

    Raises:
        ConfigError: not even one text fits.

    >>> def run_pass(count: int) -> None:
    ...     if count > 9:
    ...         raise torch.OutOfMemoryError
    >>> largest_that_fits(run_pass, 64)
    8
    """
    fitting, count = 0, 1
    while fitting < limit:
        try:
            run_pass(count)
        except torch.OutOfMemoryError:
            break
        fitting, count = count, min(2 * count, limit)
    torch.cuda.empty_cache()  # not within `except`, where the error still holds the pass's tensors
    if not fitting:
        raise ConfigError(
            "not even one text fits into the device's memory: lower encoder.max_tokens, set "
            "encoder.lora_rank, or use another device"
        )
    return fitting


def count_within(peak_bytes: Callable[[int], int], free_bytes: int, limit: int) -> int:
    """Return the largest power of two that fits, extrapolated from the peaks of two small passes.

    >>> count_within(lambda count: 1000 + 10 * count, free_bytes=2200, limit=64)
    32
    """
    small, large = peak_bytes(2), peak_bytes(8)
    per_text = max((large - small) / 6, 1.0)
    room = free_bytes * USABLE_SHARE / per_text
    count = 1
    while count * 2 <= min(room, limit):
        count *= 2
    return limit if room >= limit else count


def step_bytes(model: nn.Module) -> int:
    """Return the bytes of a step beside its passes: gradients, their sums, and two moments."""
    return 4 * sum(each.nbytes for each in model.parameters() if each.requires_grad)


@contextmanager
def dropping_gradients(model: nn.Module) -> Iterator[None]:
    """Drop each parameter's gradient at once: they need the same memory whatever the batch."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    trained = [each for each in model.parameters() if each.requires_grad]
    handles = [each.register_post_accumulate_grad_hook(drop) for each in trained]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _free_bytes() -> int:
    """Return the free memory of the machine and the container; elsewhere than on Linux 4 GiB."""
    try:
        return free_bytes("cpu")
    except MemoryShortError:
        return UNKNOWN_FREE_BYTES


def peak_bytes(run_pass: Callable[[int], None], count: int) -> int:
    """Return the bytes of all tensors that are alive at the peak of a pass of some texts."""
    with TensorBytes() as counted:
        run_pass(count)
    return int(counted.peak)


class TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations return, while they are alive.

    The peak memory of a process (`ru_maxrss`) never falls: where an earlier phase needed more than
    a pass, it says nothing of the pass.
    """

    def __init__(self) -> None:
        """Count from 0; tensors that exist already are counted when an operation returns them."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run an operation and count its results; tensors of one storage count once."""
        results = func(*args, **(kwargs or {}))
        for each in tree_leaves(results):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._alive:
            return
        self._alive.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._alive.remove(place)
        self.now -= size
