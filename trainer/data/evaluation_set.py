"""An evaluation set on disk: corpora and queries by language, qrels; BEIR's layout, joined by id.

SET/corpus.jsonl               English passages: what `clear-service index build SET` reads
SET/corpus.<language>.jsonl    the same passages in another language, where the set has them
SET/queries.jsonl              English queries
SET/queries.<language>.jsonl   queries in another language
SET/qrels.tsv                  query id, passage id, relevance (BEIR's qrels/test.tsv is read, too)

A query or a passage has one id in all languages, or different ones; a passage is relevant in a
corpus where the corpus has it. `metadata.article` says which queries are not independent.
"""

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.errors import ArtifactError
from service.retrieval.storage import artifact
from service.retrieval.storage.json_lines import read_json_lines
from trainer.data.languages import ENGLISH, canonical_language
from trainer.data.rows import MAX_LINE_BYTES
from trainer.data.trec import Qrels
from trainer.errors import DataError, OutputError

QRELS = ("qrels.tsv", "qrels/test.tsv")
QRELS_HEADER = ["query-id", "corpus-id", "score"]
CARD = "card.json"


@dataclass(frozen=True, slots=True)
class Query:
    """A query; those about one article are no independent evidence."""

    query_id: str
    text: str
    article: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries and passages by language, and which belong together."""

    passages: Mapping[str, Sequence[Passage]]
    queries: Mapping[str, Sequence[Query]]
    qrels: Qrels


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A set as read; passages stay on disk, only their ids are held."""

    name: str
    directory: Path
    queries: Mapping[str, tuple[Query, ...]]
    passage_ids: Mapping[str, frozenset[str]]
    qrels: Qrels

    def corpus(self, language: str) -> Path:
        """Name the file of a language's passages."""
        return self.directory / file_name("corpus", language)

    def judged(self, query_language: str, corpus_language: str) -> list[Query]:
        """List the queries of one language with a relevant passage in the corpus of another."""
        known = self.passage_ids[corpus_language]
        return [
            query
            for query in self.queries[query_language]
            if any(passage_id in known for passage_id in self.qrels[query.query_id])
        ]


def file_name(kind: str, language: str) -> str:
    """Name the file of a language: English has the plain name, which is BEIR's."""
    return f"{kind}.jsonl" if language == ENGLISH else f"{kind}.{language}.jsonl"


def write_evaluation_set(directory: Path, judged: Judged) -> None:
    """Write a set; a folder that is there must be an evaluation set, and is replaced as a whole.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    if directory.exists() and not (directory / QRELS[0]).is_file() and any(directory.iterdir()):
        raise OutputError(f"{directory} holds something else: name another folder")
    try:
        with artifact.temporary_directory(directory.parent, f".{directory.name}-") as temporary:
            for language, passages in judged.passages.items():
                records = (_passage_record(passage) for passage in passages)
                _write(temporary / file_name("corpus", language), records)
            for language, queries in judged.queries.items():
                records = (_query_record(query) for query in queries)
                _write(temporary / file_name("queries", language), records)
            _write_qrels(temporary / QRELS[0], judged.qrels)
            shutil.rmtree(directory, ignore_errors=True)
            artifact.publish_directory(temporary, directory)
    except OSError as error:
        raise OutputError(f"{directory} cannot be written ({error.strerror})") from None


def read_evaluation_set(directory: Path) -> EvaluationSet:
    """Read a set, and hold its parts against each other.

    Raises:
        DataError: a file is missing or has a bad line (file:line), or ids don't belong together.
        PassageError: a line of a corpus is bad.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is no folder: make a set with `clear-trainer import`")
    qrels = _read_qrels(directory)
    queries = {
        language: _judged_queries(_read_queries(path), qrels)
        for language, path in _languages(directory, "queries").items()
    }
    corpora = _languages(directory, "corpus")
    passage_ids = {
        language: frozenset(passage.passage_id for _, passage in read_passages(path))
        for language, path in corpora.items()
    }
    found = EvaluationSet(_name(directory), directory, queries, passage_ids, qrels)
    _check(found)
    return found


def _check(evaluation_set: EvaluationSet) -> None:
    directory = evaluation_set.directory
    if not evaluation_set.passage_ids or not evaluation_set.queries:
        raise DataError(f"{directory} lacks corpus.jsonl or queries.jsonl: import it again")
    known = frozenset[str]().union(*evaluation_set.passage_ids.values())
    for query_id, judgements in evaluation_set.qrels.items():
        missing = sorted(set(judgements) - known)
        if missing:
            raise DataError(
                f"{directory}: the passage {missing[0]!r}, judged for the query {query_id!r}, is "
                "in no corpus: take all files from one import"
            )
    for language, queries in evaluation_set.queries.items():
        if not queries:
            raise DataError(
                f"{directory / file_name('queries', language)} has no query with a judgement: "
                "take all files from one import"
            )


def _languages(directory: Path, kind: str) -> dict[str, Path]:
    """Find a kind's files by language, English first."""
    found = {}
    for path in directory.glob(f"{kind}*.jsonl"):
        middle = path.name.removeprefix(kind).removesuffix(".jsonl")
        try:
            found[canonical_language(middle.removeprefix(".") if middle else ENGLISH)] = path
        except ValueError as error:
            raise DataError(f"{path} has an unknown language in its name: {error}") from None
    return dict(sorted(found.items(), key=lambda item: (item[0] != ENGLISH, item[0])))


def _name(directory: Path) -> str:
    card = directory / CARD
    if card.is_file():
        return str(artifact.read_json_object(card, ArtifactError).get("name", ""))
    return directory.resolve().name


def _judged_queries(queries: Iterable[Query], qrels: Qrels) -> tuple[Query, ...]:
    """Keep what was judged; the article of a query that names none is its first passage."""
    return tuple(
        Query(query.query_id, query.text, query.article or next(iter(qrels[query.query_id])))
        for query in queries
        if query.query_id in qrels
    )


def _read_queries(path: Path) -> list[Query]:
    queries: dict[str, Query] = {}
    for origin, parse in read_json_lines(path, DataError, MAX_LINE_BYTES):
        record = parse()
        if not isinstance(record, dict):
            raise DataError(f"{origin} is not a JSON object with `_id` and `text`")
        query_id, text = record.get("_id", record.get("id")), record.get("text")
        if not isinstance(query_id, str) or len(query_id.split()) != 1:
            raise DataError(f"{origin} needs a field `_id` with text and no white space")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{origin} needs a field `text` with text")
        if query_id in queries:
            raise DataError(f"{origin} repeats the query {query_id!r}: ids must be unique")
        metadata = record.get("metadata")
        article = metadata.get("article", "") if isinstance(metadata, dict) else ""
        queries[query_id] = Query(query_id, text, str(article))
    return list(queries.values())


def _read_qrels(directory: Path) -> dict[str, dict[str, int]]:
    path = next((directory / name for name in QRELS if (directory / name).is_file()), None)
    if path is None:
        raise DataError(f"{directory} lacks {QRELS[0]}: make a set with `clear-trainer import`")
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, cells in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if not cells or (number == 1 and cells == QRELS_HEADER):
                continue
            if len(cells) != len(QRELS_HEADER) or not cells[2].lstrip("-").isdigit():
                raise DataError(
                    f"{path}:{number} is not a query id, a passage id and a whole number"
                )
            if int(cells[2]) > 0:
                qrels.setdefault(cells[0], {})[cells[1]] = int(cells[2])
    if not qrels:
        raise DataError(f"{path} judges no passage relevant: import the set again")
    return qrels


def _passage_record(passage: Passage) -> dict[str, object]:
    return {
        "_id": passage.passage_id,
        "title": passage.title,
        "text": passage.text,
        "metadata": dict(passage.metadata),
    }


def _query_record(query: Query) -> dict[str, object]:
    return {"_id": query.query_id, "text": query.text, "metadata": {"article": query.article}}


def _write(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_qrels(path: Path, qrels: Qrels) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerow(QRELS_HEADER)
        for query_id, judgements in qrels.items():
            for passage_id, relevance in judgements.items():
                writer.writerow([query_id, passage_id, relevance])
