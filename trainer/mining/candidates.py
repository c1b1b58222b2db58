"""The candidates for hard negatives: passages, and which queries they answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.retrieval.corpus.reader import read_passages
from trainer.data.rows import Row, read_rows
from trainer.datasets.decontamination import passage_hash
from trainer.errors import DataError


@dataclass
class CandidateTable:
    """All candidate passages, and what the rows say about which queries they answer."""

    texts: dict[str, str] = field(default_factory=dict)  # passage id -> text
    hashes: dict[str, str] = field(default_factory=dict)  # passage id -> hash of its text
    groups: dict[str, str] = field(default_factory=dict)  # passage id -> group id
    positives: dict[str, set[str]] = field(default_factory=dict)  # query id -> passage ids
    # (language, passage id) -> translated queries that the passage answers
    queries: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add the passage and the query of a row."""
        if row.passage_id not in self.texts:
            self.add_passage(row.passage_id, row.positive)
        self.groups[row.passage_id] = row.group_id
        self.positives.setdefault(row.query_id, set()).add(row.passage_id)
        self.queries.setdefault((row.language, row.passage_id), []).append(row.translated_query)

    def add_passage(self, passage_id: str, text: str) -> None:
        """Add a passage, which need not be the positive of a row."""
        self.texts[passage_id] = text
        self.hashes[passage_id] = passage_hash(text)

    def num_rows(self) -> int:
        """Return the number of rows that were added."""
        return sum(len(queries) for queries in self.queries.values())

    def languages(self) -> list[str]:
        """Return the languages of the rows."""
        return sorted({language for language, _ in self.queries})

    def passages_with_queries(self, language: str) -> set[str]:
        """Return the ids of the passages that answer a query in a language."""
        return {passage_id for each, passage_id in self.queries if each == language}

    def max_answers(self) -> int:
        """Return an upper bound of the number of passages that answer one query."""
        groups, texts = Counter(self.groups.values()), Counter(self.hashes.values())
        max_positives = max(len(each) for each in self.positives.values())
        return max_positives * (max(groups.values()) + max(texts.values()))

    def is_answer(self, row: Row, passage_id: str) -> bool:
        """Return whether a passage answers a row's query, and so must not be a negative.

        It does if it is a positive of the query, if it has the group or the text of one, or if
        another row has the same translated query for it.
        """
        positives = self.positives[row.query_id]
        return (
            passage_id in positives
            or self.groups.get(passage_id) in {self.groups[each] for each in positives}
            or self.hashes[passage_id] in {self.hashes[each] for each in positives}
            or row.translated_query in self.queries.get((row.language, passage_id), ())
        )


def read_candidates(rows: Path, corpora: Sequence[Path], *, is_paired: bool) -> CandidateTable:
    """Read the candidates: the positives of all rows, and the passages of corpora.

    Args:
        rows: a file of training rows.
        corpora: files of passages, as `read_passages` reads them.
        is_paired: whether each negative must come with a query that it answers.

    Raises:
        DataError: a row is bad, or there are corpora, whose passages have no queries, for paired
            negatives.
        PassageError: a passage is bad.
    """
    if corpora and is_paired:
        raise DataError("passages of a corpus have no queries: mine them with --unpaired")
    candidates = CandidateTable()
    for _, row in read_rows(rows):
        candidates.add(row)
    for path in corpora:
        for _, passage in read_passages(path):
            if passage.passage_id not in candidates.texts:
                candidates.add_passage(passage.passage_id, passage.encoder_text)
    return candidates
