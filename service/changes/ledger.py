"""The ledger of changes: which wait, which were applied or refused; built from the journal."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.changes.journal import Record
from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.reader import Passage

# Results of changes that are kept for those who ask.
MAX_RESULTS = 10_000
State = Literal["waiting", "applied", "refused"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A numbered change of some documents that waits to be applied; `at` is Unix time."""

    number: int
    at: float
    put: Sequence[Passage] = ()
    delete: Sequence[str] = ()

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.put) + len(self.delete)

    def changes(self) -> Iterator[tuple[str, Change]]:
        """Yield each document's change, with its origin."""
        for position, passage in enumerate(self.put):
            yield f"put[{position}]", Change(passage.passage_id, passage)
        for position, document_id in enumerate(self.delete):
            yield f"delete[{position}]", Change(document_id)

    def as_record(self) -> Record:
        """Return the change as a record of the journal."""
        put = [[each.passage_id, each.text, each.title, dict(each.metadata)] for each in self.put]
        return {"change": self.number, "at": self.at, "put": put, "delete": list(self.delete)}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a change.

    An applied one is in a generation; its reason says why that was not served. A refused one has a
    reason.
    """

    state: State
    generation: str | None = None
    reason: str | None = None


@dataclass
class Ledger:
    """All changes by number; kept equal to the journal by `play`."""

    waiting: dict[int, Accepted] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    next_number: int = 1
    num_waiting_documents: int = 0
    # The last change that waits of each document.
    _last: dict[str, int] = field(default_factory=dict)
    # What the writer was about to publish when it wrote its last record.
    prepared: Record | None = None

    def play(self, record: Record) -> None:
        """Take the effect of one record."""
        match record:
            case {"change": number, "at": at, "put": put, "delete": delete}:
                self._add(Accepted(number, at, [Passage(*each) for each in put], delete))
            case {"prepared": _}:
                self.prepared = record
            case {"applied": numbers, "generation": generation}:
                self.prepared = None
                for number in numbers:
                    self._settle(number, Result("applied", generation, record.get("reason")))
            case {"refused": number, "reason": reason}:
                self._settle(number, Result("refused", reason=reason))
            case {"next": number}:
                self.next_number = max(self.next_number, number)

    def records(self) -> Iterator[Record]:
        """Yield the fewest records from which this ledger can be built again."""
        yield {"next": self.next_number}
        for number, result in self.results.items():
            if result.state == "applied":
                yield applied_record([number], result.generation, result.reason)
            else:
                yield {"refused": number, "reason": result.reason}
        for accepted in self.waiting.values():
            yield accepted.as_record()
        if self.prepared:
            yield self.prepared

    def result_of(self, number: int) -> Result | None:
        """Return the state of a change; None if it is not known."""
        if number in self.waiting:
            return Result("waiting")
        return self.results.get(number)

    def waiting_change_of(self, document_id: str) -> tuple[int, bool] | None:
        """Return the number of the last waiting change of a document, and whether it deletes it."""
        number = self._last.get(document_id)
        return None if number is None else (number, document_id in self.waiting[number].delete)

    def batch(self, max_documents: int) -> list[Accepted]:
        """Return the oldest changes that wait, up to a number of documents, one at the least."""
        found: list[Accepted] = []
        num_documents = 0
        for accepted in self.waiting.values():
            num_documents += len(accepted)
            if found and num_documents > max_documents:
                break
            found.append(accepted)
        return found

    @property
    def oldest_seconds(self) -> float:
        """Return for how long the oldest change has waited; 0 if none waits."""
        oldest = next(iter(self.waiting.values()), None)
        return max(0.0, time.time() - oldest.at) if oldest else 0.0

    def _add(self, accepted: Accepted) -> None:
        self.waiting[accepted.number] = accepted
        self.next_number = max(self.next_number, accepted.number + 1)
        self.num_waiting_documents += len(accepted)
        for _, change in accepted.changes():
            self._last[change.document_id] = accepted.number

    def _settle(self, number: int, result: Result) -> None:
        self.next_number = max(self.next_number, number + 1)
        self.results[number] = result
        while len(self.results) > MAX_RESULTS:
            del self.results[next(iter(self.results))]
        if (accepted := self.waiting.pop(number, None)) is None:
            return
        self.num_waiting_documents -= len(accepted)
        for _, change in accepted.changes():
            if self._last.get(change.document_id) == number:
                del self._last[change.document_id]


def applied_record(
    numbers: Sequence[int], generation: str | None, reason: str | None = None
) -> Record:
    """Return the record of changes that a generation has; the reason says why it is not served."""
    record: Record = {"applied": list(numbers), "generation": generation}
    return record | ({"reason": reason} if reason else {})
