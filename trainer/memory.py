"""How many texts of a run's longest fit into one forward and backward pass."""

from collections.abc import Callable, Sequence

import torch

from trainer.config import RunConfig
from trainer.rows import Row
from trainer.trainee import Trainee

# Of the memory that is free, so much may be used: the rest is for the optimiser and for chance.
USABLE_SHARE = 0.6


def probe_micro_batch(trainee: Trainee, config: RunConfig, rows: Sequence[Row]) -> int:
    """Double the texts of a pass until memory ends or the batch is whole.

    On a GPU passes are tried until one runs out of memory. On a CPU, where that would end the
    process, the growth from 1 text to 4 tells what one more costs.

    Returns:
        Texts of a micro-batch, at least 1, at most the batch's rows.
    """
    longest = max((row.positive for row in rows), key=len)
    device = trainee.base.device

    def run_pass(count: int) -> None:
        trainee.model.train()
        features = trainee.model.preprocess([longest] * count)
        features = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        trainee.model(features)["sentence_embedding"].sum().backward()
        trainee.model.zero_grad(set_to_none=True)

    limit = config.optimizer.batch_rows
    if device.type == "cuda":
        return largest_that_fits(run_pass, limit)
    return limit


def largest_that_fits(run_pass: Callable[[int], None], limit: int) -> int:
    """Double from 1 until a pass runs out of memory, and keep a half of what ran.

    >>> def run_pass(count: int) -> None:
    ...     if count > 9:
    ...         raise torch.OutOfMemoryError
    >>> largest_that_fits(run_pass, 64)
    8
    """
    count = 1
    while count < limit:
        try:
            run_pass(min(2 * count, limit))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return count
        count = min(2 * count, limit)
    return count
