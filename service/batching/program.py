"""What batches are put through, and within which bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.faults import Fault
from service.batching.queue import Lane
from service.batching.request import PayloadT, ResultT, Text

PreparedT = TypeVar("PreparedT")


@dataclass(frozen=True)
class Limits:
    """Bounds of a batcher, in tokens."""

    max_batch_tokens: int
    max_bulk_batch_tokens: int
    max_waiting_tokens: int
    bulk_share: float


@dataclass(frozen=True)
class Program(Generic[PayloadT, PreparedT, ResultT]):
    """What a batch is put through.

    `prepare` may run in another thread than `run` and ahead of it; so many threads as there are
    slots may call `run` at once; `classify` tells what an exception of either means; `observe` is
    told lane, texts, tokens, padded tokens and seconds; texts of different `kind` never share a
    batch.
    """

    prepare: Callable[[list[PayloadT]], PreparedT]
    run: Callable[[PreparedT], list[ResultT]]
    classify: Callable[[Exception], Fault]
    observe: Callable[[Lane, int, int, int, float], None] = lambda *figures: None
    num_slots: int = 1
    kind: Callable[[PayloadT], object] = lambda payload: None


@dataclass(slots=True)
class Batch(Generic[PayloadT, PreparedT, ResultT]):
    """Texts that go through a program together."""

    lane: Lane
    texts: list[Text[PayloadT, ResultT]]
    leaves_more: bool = False  # others still waited when it was taken
    prepared: PreparedT | None = None

    @property
    def num_tokens(self) -> int:
        """Sum up its texts."""
        return sum(text.num_tokens for text in self.texts)
