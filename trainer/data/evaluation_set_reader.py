"""Reads evaluation sets and checks that their files belong together."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from service.retrieval.corpus.reader import read_passages
from service.retrieval.errors import ArtifactError
from service.retrieval.language_quality import QueryKind
from service.retrieval.storage import artifact
from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.text import is_blank
from trainer.data.evaluation_set import (
    CARD,
    QRELS,
    QRELS_HEADER,
    STATEMENTS,
    EvaluationSet,
    Query,
    file_name,
    texts_of,
)
from trainer.data.languages import ENGLISH, canonical_language
from trainer.data.rows import MAX_LINE_BYTES
from trainer.data.trec import Qrels
from trainer.errors import DataError

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


def read_evaluation_set(directory: Path) -> EvaluationSet:
    """Read an evaluation set and check its ids.

    Raises:
        DataError: a file is missing or has a bad line (file:line), or ids do not match.
        PassageError: a line of a corpus is bad.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a folder: make a set with `clear-trainer import`")
    qrels = _read_qrels(directory)
    queries = {
        language: _with_judgments(_read_queries(path), qrels)
        for language, path in _files_by_language(directory, "queries").items()
    }
    passage_ids = {
        language: frozenset(passage.passage_id for _, passage in read_passages(path))
        for language, path in _files_by_language(directory, "corpus").items()
    }
    unanswered = {
        language: tuple(_read_queries(path))
        for language, path in _files_by_language(directory, "unanswered").items()
    }
    name, kind = _read_card(directory)
    found = EvaluationSet(name, directory, queries, passage_ids, qrels, kind, unanswered)
    _check(found)
    return found


def _check(evaluation_set: EvaluationSet) -> None:
    directory = evaluation_set.directory
    if not evaluation_set.passage_ids or not evaluation_set.queries:
        raise DataError(f"{directory} lacks corpus.jsonl or queries.jsonl: import it again")
    known = frozenset[str]().union(*evaluation_set.passage_ids.values())
    for query_id, judgments in evaluation_set.qrels.items():
        missing = sorted(set(judgments) - known)
        if missing:
            raise DataError(
                f"{directory}: the passage {missing[0]!r}, judged for the query {query_id!r}, is "
                "in no corpus: take all files from one import"
            )
    for language, queries in evaluation_set.queries.items():
        if not queries:
            raise DataError(
                f"{directory / file_name('queries', language)} has no query with a judgment: "
                "take all files from one import"
            )


def _files_by_language(directory: Path, kind: str) -> dict[str, Path]:
    """Find the files of `corpus`, `queries` or `unanswered` by language, English first."""
    found = {}
    for path in directory.glob(f"{kind}*.jsonl"):
        middle = path.name.removeprefix(kind).removesuffix(".jsonl")
        try:
            found[canonical_language(middle.removeprefix(".") if middle else ENGLISH)] = path
        except ValueError as error:
            raise DataError(f"{path} has an unknown language in its name: {error}") from None
    return dict(sorted(found.items(), key=lambda item: (item[0] != ENGLISH, item[0])))


def _read_card(directory: Path) -> tuple[str, QueryKind]:
    """Return the name of a set and the kind of its queries."""
    path = directory / CARD
    card = artifact.read_json_object(path, ArtifactError) if path.is_file() else {}
    name = str(card.get("name", "" if card else directory.resolve().name))
    stated = card.get("query_kind") or ("statements" if name in STATEMENTS else "questions")
    for kind in get_args(QueryKind):
        if stated == kind:
            return name, kind
    raise DataError(f"{path}: `query_kind` is {stated!r}: write `questions` or `statements`")


def _with_judgments(queries: Iterable[Query], qrels: Qrels) -> tuple[Query, ...]:
    """Keep the queries with judgments; a query without article gets its first passage's id."""
    return tuple(
        replace(query, article=query.article or next(iter(qrels[query.query_id])))
        for query in queries
        if query.query_id in qrels
    )


def _read_queries(path: Path) -> list[Query]:
    queries: dict[str, Query] = {}
    for origin, parse in read_json_lines(path, DataError, MAX_LINE_BYTES):
        record = parse()
        if not isinstance(record, dict):
            raise DataError(
                f"{origin} is not a JSON object with `_id` and `text`: correct the line"
            )
        query_id, text = record.get("_id", record.get("id")), record.get("text")
        if not isinstance(query_id, str) or len(query_id.split()) != 1:
            raise DataError(
                f"{origin} needs a field `_id` with text and no white space: correct the line"
            )
        if not isinstance(text, str) or is_blank(text):
            raise DataError(f"{origin} needs a field `text` with text: correct the line")
        if query_id in queries:
            raise DataError(f"{origin} repeats the query {query_id!r}: ids must be unique")
        metadata = record.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        article = str(metadata.get("article", ""))
        queries[query_id] = Query(query_id, text, article, texts_of(metadata.get("answers")))
    return list(queries.values())


def _read_qrels(directory: Path) -> dict[str, dict[str, int]]:
    path = next((directory / name for name in QRELS if (directory / name).is_file()), None)
    if path is None:
        raise DataError(f"{directory} lacks {QRELS[0]}: make a set with `clear-trainer import`")
    qrels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_read_lines(path), 1):
        cells = line.split("\t")
        if not line or (number == 1 and cells == QRELS_HEADER):
            continue
        if len(cells) != len(QRELS_HEADER) or not WHOLE_NUMBER.fullmatch(cells[2]):
            raise DataError(f"{path}:{number} is not a query id, a passage id and a whole number")
        if int(cells[2]) > 0:
            qrels.setdefault(cells[0], {})[cells[1]] = int(cells[2])
    if not qrels:
        raise DataError(f"{path} judges no passage relevant: import the set again")
    return qrels


def _read_lines(path: Path) -> Iterator[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): import the set again") from None
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number} is not UTF-8 (byte {error.start + 1} of the line): convert the "
                "file to UTF-8"
            ) from None
