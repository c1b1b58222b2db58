"""The program that a batch runs through, the batch, and the device's slots that run it."""

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from service.batching.packing import TextT
from service.batching.request import Lane, PayloadT, ResultT
from service.errors import RequestError

PreparedT = TypeVar("PreparedT")
# A batch is stuck after this many times its forecast. The forecast is linear in the tokens and
# learned from shorter texts: 8,192 tokens of a large encoder take two to four times as long.
STUCK_FACTOR = 10.0
# What a failed batch points to: too little memory, a broken device, or a bad text.
Fault = Literal["memory", "device", "text"]


@dataclass(frozen=True)
class Limits:
    """Limits of a batcher, in tokens; `bulk_share` is a fraction of the device's time."""

    max_batch_tokens: int
    max_bulk_batch_tokens: int
    max_waiting_tokens: int
    bulk_share: float


class Program(Protocol[PayloadT, PreparedT, ResultT]):
    """What the batcher runs on each batch.

    `prepare` may run in another thread than `run`, before it. At most `num_slots` threads call
    `run` at once.
    """

    @property
    def num_slots(self) -> int:
        """Return how many batches the device runs at once."""

    def num_tokens(self, payload: PayloadT) -> int:
        """Return the number of tokens that a text costs."""

    def kind(self, payload: PayloadT) -> object:
        """Return the kind of a text; a batch holds texts of one kind."""

    def prepare(self, payloads: list[PayloadT]) -> PreparedT:
        """Build the device's input from the texts of a batch."""

    def run(self, prepared: PreparedT) -> list[ResultT | RequestError]:
        """Run a batch; return a result for each text, in order, or the error of that text alone."""

    def classify(self, error: Exception) -> Fault:
        """Return what an exception of `prepare` or `run` means."""

    def observe(
        self, lane: Lane, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float
    ) -> None:
        """Record a batch that succeeded."""


@dataclass(slots=True)
class Batch(Generic[TextT, PreparedT]):
    """Texts of one lane that run through a program together."""

    lane: Lane
    texts: list[TextT]
    leaves_more: bool = False  # other texts still waited when it was taken
    prepared: PreparedT | None = None

    @property
    def num_tokens(self) -> int:
        """Return the tokens of its texts, without padding."""
        return sum(text.num_tokens for text in self.texts)


class Slots:
    """Records when each slot's batch began and when it is expected to end.

    Changes need the batcher's lock; reads need none.
    """

    def __init__(self, count: int) -> None:
        """Start with every slot idle."""
        self.count = count
        self._spans: dict[int, tuple[float, float]] = {}  # (begin, expected end) by slot

    @property
    def idle(self) -> list[int]:
        """Return the slots that run no batch."""
        return [slot for slot in range(self.count) if slot not in self._spans]

    @property
    def num_idle(self) -> int:
        """Return the number of slots that run no batch."""
        return self.count - len(self._spans)

    def begin(self, slot: int, now: float, seconds: float) -> None:
        """Record that a slot starts a batch, and the seconds that it is expected to take."""
        self._spans[slot] = (now, now + seconds)

    def end(self, slot: int) -> None:
        """Record that a slot's batch is done."""
        del self._spans[slot]

    def is_stuck(self, now: float, least_seconds: float) -> bool:
        """Return whether a batch has been running far longer than expected.

        Args:
            now: on the clock of `begin`.
            least_seconds: a batch that has been running no longer than this is never stuck.
        """
        return any(
            now - since > max(least_seconds, STUCK_FACTOR * (until - since))
            for since, until in tuple(self._spans.values())
        )

    def wait_seconds(self, now: float) -> float:
        """Return the expected time until a slot is free, a mean over the waiting batches."""
        if self.num_idle:
            return 0.0
        spans = tuple(self._spans.values())
        return sum(max(0.0, until - now) for _, until in spans) / self.count
