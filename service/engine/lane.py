"""Encoding in the bulk lane of the batcher, for threads that build a generation meanwhile."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine.engine import Engine
from service.engine.work import BatchItem
from service.retrieval.encoder.batches import (
    PaddedBatch,
    Role,
    Shape,
    TokenizedText,
    are_parts,
    max_rows,
)
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.runtime import Runtime

EMBED_SECONDS = 600.0
Embed = Callable[[PaddedBatch], Tensor]


def encoder_in_bulk_lane(
    engine: Engine, max_slice_tokens: int, check: Callable[[], None]
) -> Encoder:
    """Return a copy of the engine's encoder for another thread; the batcher runs its batches.

    On a CPU a batch of no fixed shape is cut into slices, between which searches run: each row has
    the same bits whichever rows are beside it (`service.retrieval.encoder.bulk`).

    Args:
        engine: its event loop must go on running.
        max_slice_tokens: of a slice; a longer text is a slice of its own.
        check: called before each slice; it raises to stop.
    """
    loop = asyncio.get_running_loop()

    async def run(padded: PaddedBatch) -> Tensor:
        item = BatchItem(TokenizedText([], False, padded.side), padded=padded)
        # Without admission: that others wait is no reason to refuse it.
        deadline = time.monotonic() + EMBED_SECONDS
        [answer] = await engine.batcher.run([item], "bulk", deadline)
        return answer.result.embedding

    def embed(padded: PaddedBatch) -> Tensor:
        check()
        return asyncio.run_coroutine_threadsafe(run(padded), loop).result()

    return engine.searcher.encoder.with_runtimes(
        lambda runtime, side: LaneRuntime(runtime, side, embed, max_slice_tokens)
    )


@dataclass(frozen=True)
class LaneRuntime:
    """A runtime whose batches another one runs, in its turn."""

    runtime: Runtime
    side: Role
    run: Embed
    max_slice_tokens: int

    @property
    def name(self) -> str:
        """Return the name of the runtime that computes."""
        return self.runtime.name

    @property
    def device(self) -> torch.device:
        """Return the device that holds the embeddings."""
        return self.runtime.device

    @property
    def embedding_dim(self) -> int:
        """Return the length of an embedding."""
        return self.runtime.embedding_dim

    @property
    def num_slots(self) -> int:
        """Return 1: changes wait for their turn batch by batch."""
        return 1

    def passage_shape(self, length: int) -> Shape | None:
        """Return the only shape of passages of a length, if there is one."""
        return self.runtime.passage_shape(length)

    def warm_up(self, max_batch_tokens: int) -> None:
        """Do nothing: the runtime that computes is warm."""

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed a padded batch, slice by slice; see `Runtime.embed`."""
        count, length = token_ids.shape
        is_whole = not attention_mask.all() or are_parts(token_ids, attention_mask)
        is_fixed = self.device.type != "cpu" or self.passage_shape(length) is not None
        can_be_cut = not (is_whole or is_fixed)
        size = max_rows(length, self.max_slice_tokens) if can_be_cut else count
        number = -(-count // size)  # of slices, about equal: one of few tokens may round otherwise
        bounds = [count * part // number for part in range(number + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(bounds)]
        pieces = [(token_ids[part], attention_mask[part]) for part in parts]
        return torch.cat([self.run(PaddedBatch(*piece, self.side)) for piece in pieces])
