"""Pairs of an English sentence and its translation: rows whose passage is the English sentence.

Such rows keep an encoder's ranking of statements while it learns questions, and teach it languages
that it knows little of. Held-out documents make an evaluation set: from a sentence in another
language to its English sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH
from trainer.data.rows import Row

QUOTE = '"'


@dataclass(frozen=True, slots=True)
class SentencePair:
    """An English sentence with a translation, and the document that it is from."""

    sentence_id: str
    english: str
    translated: str
    language: str
    document: str


def pair_rows(pairs: Sequence[SentencePair], held_out: frozenset[str]) -> list[Row]:
    """Make a row of each pair that is not from a held-out document."""
    return [
        Row(
            query=pair.english,
            translated_query=pair.translated,
            language=pair.language,
            passage_id=f"{pair.sentence_id}.line",
            positive=pair.english,
            query_id=pair.sentence_id,
        )
        for pair in pairs
        if pair.document not in held_out
    ]


def pair_evaluation(
    pairs: Sequence[SentencePair], held_out: frozenset[str]
) -> EvaluationData | None:
    """Make queries of held-out translations, the first of each sentence in a language.

    English sentences are no queries: they would equal their answers.
    """
    passages: dict[str, Passage] = {}
    queries: dict[str, dict[str, Query]] = {}
    for pair in pairs:
        if pair.document in held_out:
            passages.setdefault(pair.sentence_id, Passage(pair.sentence_id, pair.english))
            query = Query(pair.sentence_id, pair.translated, pair.document)
            queries.setdefault(pair.language, {}).setdefault(pair.sentence_id, query)
    if not passages:
        return None
    return EvaluationData(
        {ENGLISH: list(passages.values())},
        {language: list(by_id.values()) for language, by_id in queries.items()},
        {sentence_id: {sentence_id: 1} for sentence_id in passages},
        "statements",
    )


def cell_text(cell: str) -> str:
    """Return the text of a table's cell, with white space normalized and without CSV's quotes.

    >>> cell_text('" He said ""yes"". "'), cell_text('"Yes" is "no"')
    ('He said "yes".', '"Yes" is "no"')
    """
    if cell.startswith(QUOTE) and cell.endswith(QUOTE) and QUOTE * 2 in cell[1:-1]:
        cell = cell[1:-1].replace(QUOTE * 2, QUOTE)
    return " ".join(cell.split())
