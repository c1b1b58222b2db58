"""Evaluation sets: corpora and queries by language, and qrels, joined by id.

SET/corpus.jsonl               English passages: what `clear-service index build SET` reads
SET/corpus.<language>.jsonl    the same passages in another language, if the set has them
SET/queries.jsonl              English queries
SET/queries.<language>.jsonl   queries in another language
SET/qrels.tsv                  query id, passage id, relevance

The layout is BEIR's with more languages; BEIR's `qrels/test.tsv` is read, too. A query or a passage
has one id in all languages, or different ones; a judgment counts in each corpus that holds the
passage. `metadata.article` names the article of a query: queries about one article are not
independent observations. `metadata.answers` are its answers in English, if the data set has them.
`query_kind` of `card.json` says whether the queries are questions or statements, which have their
translation as passage.

`unanswered.jsonl` and `unanswered.<language>.jsonl` are queries that no passage answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.language_quality import QueryKind
from trainer.data.languages import ENGLISH
from trainer.data.trec import Qrels

QRELS = ("qrels.tsv", "qrels/test.tsv")
QRELS_HEADER = ["query-id", "corpus-id", "score"]
CARD = "card.json"
# Data sets of statements; imports of an older version have no `query_kind` in their card.
STATEMENTS = frozenset({"ntrex", "sib200", "tatoeba", "tico19"})


@dataclass(frozen=True, slots=True)
class Query:
    """A query, the article that it asks about, and its answers in English, if they are known."""

    query_id: str
    text: str
    article: str = ""
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The content of an evaluation set: passages and queries by language, and qrels."""

    passages: Mapping[str, Sequence[Passage]]
    queries: Mapping[str, Sequence[Query]]
    qrels: Qrels
    query_kind: QueryKind = "questions"
    unanswered: Mapping[str, Sequence[Query]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """An evaluation set in a folder; the texts of its passages stay on disk."""

    name: str
    directory: Path
    queries: Mapping[str, tuple[Query, ...]]
    passage_ids: Mapping[str, frozenset[str]]
    qrels: Qrels
    query_kind: QueryKind = "questions"
    unanswered: Mapping[str, tuple[Query, ...]] = field(default_factory=dict)

    def corpus_path(self, language: str) -> Path:
        """Return the file of a language's passages."""
        return self.directory / file_name("corpus", language)

    def judged_queries(self, query_language: str, corpus_language: str) -> list[Query]:
        """Return the queries of one language with a relevant passage in another's corpus."""
        known = self.passage_ids[corpus_language]
        return [
            query
            for query in self.queries[query_language]
            if any(passage_id in known for passage_id in self.qrels[query.query_id])
        ]


def texts_of(content: object) -> tuple[str, ...]:
    """Return the texts of a list from JSON; none if it is something else."""
    texts = content if isinstance(content, list) else []
    return tuple(each for each in texts if isinstance(each, str))


def evenly(queries: Sequence[Query], count: int) -> tuple[Query, ...]:
    """Return at most `count` queries, spread evenly; all of them if `count` is 0."""
    step = max(1, -(-len(queries) // count)) if count else 1
    return tuple(queries[::step])


def file_name(kind: str, language: str) -> str:
    """Return the file name of a kind and language; English has BEIR's name."""
    return f"{kind}.jsonl" if language == ENGLISH else f"{kind}.{language}.jsonl"
