"""A runtime that is loaded when it first embeds: of the passage side of a service on a CPU."""

from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.batches import Shape
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.errors import CheckpointError


class OnDemandRuntime:
    """Loads a side's runtime at its first use; until then the side takes no memory."""

    def __init__(self, load: Callable[[], Runtime], other: Runtime) -> None:
        """Take what loads the runtime, and the other side's, whose device and number it shares.

        Args:
            load: called once, and after `unload`; what it raises, the first use raises, and the
                next tries again.
            other: the runtime of the side that is loaded.
        """
        self._load = load
        self._loaded: Runtime | None = None
        self._name = ""
        self._loading, self._turn = Lock(), Lock()
        self.device: torch.device = other.device
        self.embedding_dim: int = other.embedding_dim
        self.num_slots: int = other.num_slots

    @property
    def is_loaded(self) -> bool:
        """Return whether the runtime takes memory."""
        return self._loaded is not None

    @property
    def name(self) -> str:
        """Return the name of the runtime, which is loaded for it the first time."""
        return self._name or self.load().name

    def load(self) -> Runtime:
        """Return the runtime, loaded if it is not.

        Raises:
            CheckpointError: its embeddings have another length than the other side's, or the
                files cannot be used.
        """
        with self._loading:
            if self._loaded is None:
                loaded = self._load()
                if loaded.embedding_dim != self.embedding_dim:
                    raise CheckpointError(
                        f"the query side has {self.embedding_dim} dimensions, the passage side "
                        f"{loaded.embedding_dim}: use a checkpoint whose sides have the same number"
                    )
                self._loaded, self._name = loaded, loaded.name
        return self._loaded

    def unload(self) -> None:
        """Free the runtime's memory; the next use loads it again."""
        with self._loading:
            self._loaded = None

    def passage_shape(self, length: int) -> Shape | None:
        """Return the only shape of passages of a length; the runtime is loaded for it."""
        return self.load().passage_shape(length)

    def warm_up(self, max_batch_tokens: int) -> None:
        """Warm the runtime up if it is loaded; else texts prepare each shape when they come."""
        if self._loaded is not None:
            self._loaded.warm_up(max_batch_tokens)

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D]; the first one loads."""
        loaded = self.load()
        # This side may run fewer batches at a time than the other: its graph has no copies by core.
        with self._turn if loaded.num_slots < self.num_slots else nullcontext():
            return loaded.embed(token_ids, attention_mask)


def load(runtime: Runtime) -> Runtime:
    """Return a runtime, loaded if it is loaded on demand."""
    return runtime.load() if isinstance(runtime, OnDemandRuntime) else runtime


def unload(runtime: Runtime) -> None:
    """Free a runtime's memory if it is loaded on demand; its next use loads it again."""
    if isinstance(runtime, OnDemandRuntime):
        runtime.unload()


def is_loaded(runtime: Runtime) -> bool:
    """Return whether a runtime embeds without being loaded first."""
    return not isinstance(runtime, OnDemandRuntime) or runtime.is_loaded
