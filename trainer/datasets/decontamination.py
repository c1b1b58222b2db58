"""Decontamination: finds training rows whose passage or question is in an evaluation set."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.progress import OnProgress, counted, ignore_progress
from trainer.data.evaluation_set import EvaluationSet
from trainer.data.rows import Row


def passage_hash(text: str) -> str:
    """Return a hash of a text that ignores case, white space and the form of Unicode."""
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()


@dataclass
class Decontamination:
    """The relevant passages and questions of evaluation sets, and counts of rows that hold one."""

    passages: dict[str, str] = field(default_factory=dict)  # hash of a relevant passage -> set
    query_ids: dict[str, str] = field(default_factory=dict)  # query id -> set
    found: Counter[str] = field(default_factory=Counter)

    def add(self, evaluation_set: EvaluationSet) -> None:
        """Add a set's relevant passages, with and without title, and its question ids."""
        for passage in relevant_passages(evaluation_set):
            for text in (passage.encoder_text, passage.text):
                self.passages[passage_hash(text)] = evaluation_set.name
        self.query_ids |= dict.fromkeys(evaluation_set.qrels, evaluation_set.name)

    def reason(self, row: Row) -> str | None:
        """Return why a row must not be in training, or None."""
        if row.query_id in self.query_ids:
            return f"question id in {self.query_ids[row.query_id]}"
        name = self.passages.get(passage_hash(row.positive))
        return f"passage in {name}" if name else None

    def clean(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the clean rows; count the others in `found`."""
        for row in rows:
            if reason := self.reason(row):
                self.found[reason] += 1
            else:
                yield row


def relevant_passages(evaluation_set: EvaluationSet) -> Iterator[Passage]:
    """Yield the passages, of all languages, that are relevant for a query of a set."""
    relevant = {passage_id for judged in evaluation_set.qrels.values() for passage_id in judged}
    for language in evaluation_set.passage_ids:
        for _, passage in read_passages(evaluation_set.corpus_path(language)):
            if passage.passage_id in relevant:
                yield passage


def decontaminate(
    rows: Sequence[Row],
    evaluation_sets: Iterable[EvaluationSet],
    *,
    keep: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> tuple[list[Row], dict[str, int]]:
    """Remove rows whose passage or question is in an evaluation set.

    Args:
        rows: for training.
        evaluation_sets: that the encoder will be evaluated on.
        keep: count such rows, but keep them.
        on_progress: called with the stage decontaminate and the number of rows.

    Returns:
        The rows that remain, and the number of contaminated rows by reason.
    """
    decontamination = Decontamination()
    for evaluation_set in evaluation_sets:
        decontamination.add(evaluation_set)
    clean = list(decontamination.clean(counted(rows, "decontaminate", on_progress, len(rows))))
    return list(rows) if keep else clean, dict(decontamination.found)
