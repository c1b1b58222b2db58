"""A request in the batcher: its texts, and its answers as they arrive."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")
Lane = Literal["query", "bulk"]
LANES: tuple[Lane, Lane] = ("query", "bulk")


@dataclass(slots=True)
class Answer(Generic[ResultT]):
    """The result of one text, and the seconds that the text waited in the queue."""

    result: ResultT
    queue_seconds: float


class Request(Generic[ResultT]):
    """The future of a request's answers, in the event loop that created it."""

    def __init__(self, num_texts: int) -> None:
        """Expect `num_texts` answers."""
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Answer[ResultT]]] = self.loop.create_future()
        self.is_gone = False
        self._answers: list[Answer[ResultT] | None] = [None] * num_texts
        self._missing = num_texts

    def settle(self, position: int, outcome: Answer[ResultT] | Exception) -> None:
        """Store one answer; the last answer, or the first error, completes the future."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            return
        self._answers[position] = outcome
        self._missing -= 1
        if self._missing == 0:
            self.future.set_result([answer for answer in self._answers if answer is not None])


@dataclass(slots=True)
class Spent:
    """The time of a request before its admission: its own work, or else a wait for others."""

    own_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """Count the time of a block as the request's own work, in any thread."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.own_seconds += time.monotonic() - started

    def waited_seconds(self, now: float) -> float:
        """Return the seconds until `now` in which none of the request's own work was done."""
        return max(0.0, now - self.began - self.own_seconds)


@dataclass(slots=True)
class RequestText(Generic[PayloadT, ResultT]):
    """One text of a request; the deadline is on the monotonic clock."""

    payload: PayloadT
    num_tokens: int
    request: Request[ResultT]
    position: int
    deadline: float
    kind: object = None
    since: float = field(default_factory=time.monotonic)

    def is_gone(self, moment: float) -> bool:
        """Return whether no client will be waiting at a moment of the monotonic clock."""
        return self.request.is_gone or moment > self.deadline


def deliver(
    texts: Sequence[RequestText[PayloadT, ResultT]],
    outcomes: Sequence[Answer[ResultT] | Exception],
) -> None:
    """Settle requests from another thread; wake each event loop once."""

    def settle_all(loop: asyncio.AbstractEventLoop) -> None:
        for text, outcome in zip(texts, outcomes, strict=True):
            if text.request.loop is loop:
                text.request.settle(text.position, outcome)

    for loop in {text.request.loop for text in texts}:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle_all, loop)
