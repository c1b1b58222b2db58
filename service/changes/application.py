"""Applying a batch of accepted changes: one generation for all of them, published or refused."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from service.changes.journal import Record
from service.changes.ledger import Accepted
from service.retrieval.corpus.changes import Change
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import PassageError
from service.retrieval.generation.generation import current_name
from service.retrieval.generation.history import live_names
from service.retrieval.index.options import IndexOptions
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.push import push_if_configured

# Documents of one generation.
MAX_DOCUMENTS = 10_000
OF_CHANGE = " of change "  # ends the origin of a document


class RefusedChangeError(Exception):
    """One change cannot be applied, and so none of its documents is."""

    def __init__(self, number: int, reason: str) -> None:
        """Keep the change and the reason."""
        super().__init__(reason)
        self.number = number
        self.reason = reason


@dataclass(frozen=True)
class Application:
    """Applies changes to an index, and says in the journal what it is about to publish."""

    index: Path
    encoder: Encoder
    options: IndexOptions
    write: Callable[[Record], None]  # into the journal
    check: Callable[[], None]  # called during the work; it raises to stop

    def run(self, batch: Sequence[Accepted]) -> str:
        """Publish the generation with these changes, and return its name.

        Raises:
            RefusedChangeError: a change is invalid; nothing was published.
            PassageError: together they leave no passage; nothing was published.
            RetrievalError, RequestError: it may succeed later; nothing was published.
        """

        def on_progress(stage: str, done: int, total: int | None) -> None:
            self.check()

        def prepare(directory: Path, name: str) -> None:
            push_if_configured(directory, name, self.options, on_progress)
            self.check()
            self.write(self._prepared(batch, name))

        try:
            report = apply_changes(
                _numbered(batch),
                self.index,
                self.encoder,
                before_publish=prepare,
                on_invalid=_refuse,
                on_progress=on_progress,
            )
        except PassageError as error:
            if OF_CHANGE in str(error):  # which change it is, is known
                _refuse(error)
            raise
        return report.directory.name

    def _prepared(self, batch: Sequence[Accepted], name: str) -> Record:
        numbers = [accepted.number for accepted in batch]
        return {"prepared": numbers, "generation": name, "base": current_name(self.index)}


def _numbered(batch: Sequence[Accepted]) -> Iterator[tuple[str, Change]]:
    """Yield all changes; each origin ends with the number of its change."""
    for accepted in batch:
        for origin, change in accepted.changes():
            yield f"{origin}{OF_CHANGE}{accepted.number}", change


def _refuse(error: PassageError) -> NoReturn:
    """Refuse the change that an error's origin names: an error begins with its origin."""
    origin, _, rest = str(error).partition(OF_CHANGE)
    number = "".join(itertools.takewhile(str.isdigit, rest))
    raise RefusedChangeError(int(number), origin + rest.removeprefix(number)) from None


def was_published(index: Path, prepared: Record) -> bool:
    """Return whether the generation of a `prepared` record became live before its writer died."""
    names, name, base = live_names(index), prepared["generation"], prepared["base"]
    if name not in names:
        return False
    # A generation may be live again whose base came after it.
    return base == name or base not in names or names.index(name) > names.index(base)
