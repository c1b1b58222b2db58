"""Decontamination: finds training rows whose passage, question or sentence an evaluation set holds.

A sentence counts if it has at least `MIN_LETTERS` letters, because a short one ("Thank you.") is in
many texts. It counts wherever it is: as a text of its own or within a passage.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.progress import OnProgress, counted, ignore_progress
from trainer.data.evaluation_set import EvaluationSet
from trainer.data.rows import Row

MIN_LETTERS = 25
SENTENCE_END = re.compile(r"(?<=[.!?;…])\s+|(?<=[。！？।۔؟])\s*|\n+")


def passage_hash(text: str) -> str:
    """Return a hash of a text that ignores case, white space and the form of Unicode."""
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()


def letters_hash(text: str) -> str:
    """Return a hash of the letters and digits of a text, without case, marks and punctuation."""
    return hashlib.sha256(_letters(text).encode()).hexdigest()


def _letters(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return "".join(each for each in normal if each.isalnum())


def sentence_hashes(text: str) -> set[str]:
    """Return the `letters_hash` of a text and of each of its sentences that is long enough."""
    parts = {_letters(part) for part in (text, *SENTENCE_END.split(text))}
    return {hashlib.sha256(part.encode()).hexdigest() for part in parts if len(part) >= MIN_LETTERS}


@dataclass
class Decontamination:
    """Passages, questions and sentences of evaluation sets, and counts of rows that hold one."""

    passages: dict[str, str] = field(default_factory=dict)  # hash of a relevant passage -> set
    sentences: dict[str, str] = field(default_factory=dict)  # hash of a sentence -> set
    query_ids: dict[str, str] = field(default_factory=dict)  # query id -> set
    found: Counter[str] = field(default_factory=Counter)

    def add(self, evaluation_set: EvaluationSet) -> None:
        """Add a set's relevant passages, with and without title, its questions and their ids."""
        name = evaluation_set.name
        for passage in relevant_passages(evaluation_set):
            for text in (passage.encoder_text, passage.text):
                self.passages[passage_hash(text)] = name
            self.sentences |= dict.fromkeys(sentence_hashes(passage.text), name)
        for queries in evaluation_set.queries.values():
            for query in queries:
                self.sentences |= dict.fromkeys(sentence_hashes(query.text), name)
        self.query_ids |= dict.fromkeys(evaluation_set.qrels, evaluation_set.name)

    def reason(self, row: Row) -> str | None:
        """Return why a row must not be in training, or None."""
        if row.query_id in self.query_ids:
            return f"question id in {self.query_ids[row.query_id]}"
        if name := self.passages.get(passage_hash(row.positive)):
            return f"passage in {name}"
        for text in (row.query, row.translated_query, row.positive):
            for found in sentence_hashes(text) & self.sentences.keys():
                return f"sentence in {self.sentences[found]}"
        return None

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
