"""What a run stages: a whole corpus, or changes of a corpus that is already an index."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunker import Chunker
from service.retrieval.corpus.duplicates import NO_KEY, Duplicates, text_key
from service.retrieval.corpus.fields import Fields, checked_values
from service.retrieval.corpus.reader import OnInvalid, Passage, no_passages
from service.retrieval.errors import PassageError
from service.retrieval.indexing.staging import StagedPassages
from service.retrieval.progress import OnProgress

PROGRESS_PASSAGES = 1024
OnDuplicates = Callable[[Duplicates], None]


def stage_corpus(
    passages: Iterable[tuple[str, Passage]],
    fields: Fields,
    chunker: Chunker,
    on_invalid: OnInvalid,
    on_progress: OnProgress,
    on_duplicates: OnDuplicates = lambda found: None,
) -> Callable[[StagedPassages], None]:
    """Return a function that stages a corpus, in which no id repeats.

    Args:
        passages: each with its origin.
        fields: metadata whose values are checked.
        chunker: splits long documents.
        on_invalid: called with the error of a passage that cannot be staged.
        on_progress: called during the stage read.
        on_duplicates: called with the documents that repeat another one's text.
    """

    def stage(staged: StagedPassages) -> None:
        for origin, document in passages:
            try:
                key = text_key(document.encoder_text)
                for passage in passages_of(origin, document, fields, chunker):
                    staged.add(origin, passage, key)
                    key = NO_KEY
            except PassageError as error:
                on_invalid(error)
            if len(staged) % PROGRESS_PASSAGES == 0:
                on_progress("read", len(staged), None)
        on_progress("read", len(staged), len(staged))
        if len(staged) == 0:
            raise no_passages()
        on_duplicates(staged.duplicates())

    return stage


def stage_changes(
    changes: Iterable[tuple[str, Change]],
    fields: Fields,
    chunker: Chunker,
    on_invalid: OnInvalid,
    on_progress: OnProgress,
) -> Callable[[StagedPassages], None]:
    """Return a function that stages changes; of several changes of a document the last one counts.

    Arguments as for `stage_corpus`. An invalid change is left out: it leaves the document as it is.
    """

    def stage(staged: StagedPassages) -> None:
        number = 0
        for number, (origin, change) in enumerate(changes, start=1):
            try:
                stage_change(staged, origin, change, fields, chunker)
            except PassageError as error:
                on_invalid(error)
            if number % PROGRESS_PASSAGES == 0:
                on_progress("read", number, None)
        on_progress("read", number, number)

    return stage


def stage_change(
    staged: StagedPassages, origin: str, change: Change, fields: Fields, chunker: Chunker
) -> None:
    """Stage one change.

    Raises:
        PassageError: a declared field has a value of another kind.
    """
    if change.document is None:
        staged.delete(change.document_id)
    else:
        passages = passages_of(origin, change.document, fields, chunker)
        staged.put(origin, change.document_id, passages)


def passages_of(origin: str, document: Passage, fields: Fields, chunker: Chunker) -> list[Passage]:
    """Return the passages that stand for a document, as an index holds them.

    Raises:
        PassageError: a value does not have its field's kind.
    """
    return chunker.passages_of(with_checked_values(origin, document, fields))


def with_checked_values(origin: str, passage: Passage, fields: Fields) -> Passage:
    """Return a passage whose declared fields have the form in which an index holds them.

    Raises:
        PassageError: a value does not have its field's kind.
    """
    values = checked_values(origin, passage.metadata, fields)
    found = {name: value for name, value in values.items() if value is not None}
    return replace(passage, metadata={**passage.metadata, **found})
