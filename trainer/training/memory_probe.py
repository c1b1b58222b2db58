"""The memory probe: how many texts fit into memory in one forward and backward pass."""

import resource
from collections.abc import Callable, Sequence

import torch

from service.retrieval.errors import MemoryShortError
from service.retrieval.hardware import free_bytes
from trainer.config import RunConfig
from trainer.data.rows import Row
from trainer.errors import ConfigError
from trainer.training.model import TrainableEncoder

# Share of the free memory to use; the rest is for the optimizer and as a reserve.
USABLE_SHARE = 0.6
UNKNOWN_FREE_BYTES = 4 * 2**30


def probe_micro_batch(trainable: TrainableEncoder, config: RunConfig, rows: Sequence[Row]) -> int:
    """Find the largest micro-batch of the run's longest passage that fits into memory.

    On a GPU, the size is doubled until a pass runs out of memory. On a CPU, where that would end
    the process, the memory of a text is estimated from a small pass and one four times as large.

    Returns:
        Texts of a micro-batch: a power of two, or the whole batch.
    """
    longest = max((row.positive for row in rows), key=len)
    limit = config.optimizer.batch_rows
    device = trainable.base.device

    def run_pass(count: int) -> None:
        trainable.model.train()
        features = trainable.model.preprocess([longest] * count)
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        is_bf16 = trainable.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            embeddings = trainable.model(moved)["sentence_embedding"]
        embeddings.sum().backward()
        trainable.model.zero_grad(set_to_none=True)

    if device.type == "cuda":
        return largest_that_fits(run_pass, limit)
    return count_within(_peak_bytes_of(run_pass), _free_bytes(), limit)


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
            torch.cuda.empty_cache()
            break
        fitting, count = count, min(2 * count, limit)
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


def _peak_bytes_of(run_pass: Callable[[int], None]) -> Callable[[int], int]:
    def peak_bytes(count: int) -> int:
        run_pass(count)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    return peak_bytes


def _free_bytes() -> int:
    """Return the free memory of the machine and the container; elsewhere than on Linux 4 GiB."""
    try:
        return free_bytes("cpu")
    except MemoryShortError:
        return UNKNOWN_FREE_BYTES
