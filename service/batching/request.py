"""A request on its way through the batcher: its texts, and the answers as they come."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Answer(Generic[ResultT]):
    """What a batch made of a text, and how long the text waited for it."""

    result: ResultT
    queue_seconds: float


class Request(Generic[ResultT]):
    """What waits for the answers of its texts, in the event loop where it was made."""

    def __init__(self, num_texts: int) -> None:
        """Expect so many answers."""
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Answer[ResultT]]] = self.loop.create_future()
        self.is_gone = False
        self._answers: list[Answer[ResultT] | None] = [None] * num_texts
        self._missing = num_texts

    def settle(self, position: int, outcome: Answer[ResultT] | Exception) -> None:
        """Take in one answer; the last one, or any error, settles the request."""
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
class Text(Generic[PayloadT, ResultT]):
    """One text of a request; the deadline is on the monotonic clock."""

    payload: PayloadT
    num_tokens: int
    request: Request[ResultT]
    position: int
    deadline: float
    kind: object = None
    since: float = field(default_factory=time.monotonic)

    def is_gone(self, moment: float) -> bool:
        """Tell whether nobody will wait for it at a moment of the monotonic clock."""
        return self.request.is_gone or moment > self.deadline


def deliver(
    texts: Sequence[Text[PayloadT, ResultT]], outcomes: Sequence[Answer[ResultT] | Exception]
) -> None:
    """Hand outcomes to the requests from another thread, one wake-up of each event loop."""

    def settle_all(loop: asyncio.AbstractEventLoop) -> None:
        for text, outcome in zip(texts, outcomes, strict=True):
            if text.request.loop is loop:
                text.request.settle(text.position, outcome)

    for loop in {text.request.loop for text in texts}:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle_all, loop)
