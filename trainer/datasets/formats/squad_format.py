"""The format of SQuAD 1.1: paragraphs with their questions, one file for each language.

A passage's id is its place in the file (`a03.p02`: article 3, paragraph 2, from 0). The ids of
`qas` join the questions of all languages; texts are never compared. The Hub's flat form (Parquet
with one question a row) is read, too: there, a paragraph ends where the context changes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from service.retrieval.corpus.parquet import batch_records
from service.retrieval.corpus.reader import Passage
from service.retrieval.text import is_blank
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH
from trainer.data.rows import Row
from trainer.datasets.source_files import open_source
from trainer.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the id of the passage that answers it."""

    query_id: str
    text: str
    passage_id: str


@dataclass(frozen=True, slots=True)
class SquadFile:
    """The passages and questions of one file, in one language."""

    path: Path
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


def read_squad(path: Path) -> SquadFile:
    """Read a file.

    Raises:
        DataError: the file is missing or not SQuAD 1.1; the message names the place in it.
    """
    passages: list[Passage] = []
    questions: dict[str, Question] = {}
    walk = _flat_paragraphs(path) if path.suffix == ".parquet" else _paragraphs(path)
    for where, passage_id, paragraph in walk:
        metadata = {"article": passage_id.partition(".")[0]}
        passages.append(Passage(passage_id, _text(paragraph, "context", where), "", metadata))
        for number, question in enumerate(_list(paragraph, "qas", where)):
            place = f"{where}.qas[{number}]"
            query_id = _text(question, "id", place)
            if len(query_id.split()) != 1 or query_id in questions:
                raise DataError(f"{place}.id repeats an id of the file or holds white space")
            questions[query_id] = Question(query_id, _text(question, "question", place), passage_id)
    if not questions:
        raise DataError(f"{path} holds no questions: restore it from a copy")
    return SquadFile(path, tuple(passages), tuple(questions.values()))


def evaluation_data(files: Mapping[str, SquadFile]) -> EvaluationData:
    """Join files by question id to queries and corpora in every language.

    Args:
        files: by language; English has all questions.

    Raises:
        DataError: English lacks a question.
    """
    english = {question.query_id: question.passage_id for question in files[ENGLISH].questions}
    passages: dict[str, list[Passage]] = {}
    queries: dict[str, list[Query]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for language, file in files.items():
        _check_joined(file, files[ENGLISH].path, english)
        are_parallel = all(english[each.query_id] == each.passage_id for each in file.questions)
        prefix = "" if are_parallel else f"{language}:"
        passages[language] = [_renamed(passage, prefix) for passage in file.passages]
        queries[language] = [
            Query(each.query_id, each.text, english[each.query_id].partition(".")[0])
            for each in file.questions
        ]
        for each in file.questions:
            relevant = qrels.setdefault(each.query_id, {english[each.query_id]: 1})
            relevant[f"{prefix}{each.passage_id}"] = 1
    return EvaluationData(passages, queries, qrels)


def parallel_rows(
    name: str, english: SquadFile, translated: SquadFile, language: str
) -> Iterator[Row]:
    """Yield a row for each question of a file in another language.

    Raises:
        DataError: English lacks a question.
    """
    questions = {question.query_id: question for question in english.questions}
    texts = {passage.passage_id: passage.text for passage in english.passages}
    _check_joined(translated, english.path, questions)
    for question in translated.questions:
        original = questions[question.query_id]
        yield Row(
            query=original.text,
            translated_query=question.text,
            language=language,
            passage_id=f"{name}.{original.passage_id}",
            positive=texts[original.passage_id],
            query_id=question.query_id,
        )


def _renamed(passage: Passage, prefix: str) -> Passage:
    return Passage(f"{prefix}{passage.passage_id}", passage.text, "", passage.metadata)


def _check_joined(file: SquadFile, english_path: Path, english: Iterable[str]) -> None:
    known = set(english)
    for question in file.questions:
        if question.query_id not in known:
            raise DataError(
                f"{file.path}: the question {question.query_id} is not in {english_path}: "
                "take both files from one release"
            )


def _flat_paragraphs(path: Path) -> Iterator[tuple[str, str, object]]:
    """Yield the paragraphs of a Parquet file, as `_paragraphs` does of JSON."""
    try:
        with open_source(path) as file:
            table = pq.read_table(file, columns=["id", "title", "context", "question"])
        rows = [row for batch in table.to_batches() for row in batch_records(batch)]
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file with SQuAD's columns: {reason}") from None
    article, number, start = 0, 0, 0
    for end in range(1, len(rows) + 1):
        last, following = rows[end - 1], rows[end] if end < len(rows) else {}
        if following.get("context") != last["context"]:
            paragraph = {"context": last["context"], "qas": rows[start:end]}
            yield f"{path}:{start + 1}", f"a{article:02}.p{number:02}", paragraph
            is_same_article = following.get("title") == last["title"]
            article, number = (article, number + 1) if is_same_article else (article + 1, 0)
            start = end


def _paragraphs(path: Path) -> Iterator[tuple[str, str, object]]:
    """Yield the place in the file, the passage id and the content of each paragraph."""
    root = f"{path}: $"  # JSONPath's name of the whole file
    for article_number, article in enumerate(_list(_read_json(path), "data", root)):
        where = f"{root}.data[{article_number}]"
        for number, paragraph in enumerate(_list(article, "paragraphs", where)):
            passage_id = f"a{article_number:02}.p{number:02}"
            yield f"{where}.paragraphs[{number}]", passage_id, paragraph


def _read_json(path: Path) -> object:
    try:
        with open_source(path) as file:
            content: object = json.load(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the folder") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not valid JSON: restore it from a copy") from None
    return content


def _list(node: object, key: str, where: str) -> list[object]:
    return _value(node, key, where, list, "a list")


def _text(node: object, key: str, where: str) -> str:
    value = _value(node, key, where, str, "text")
    if is_blank(value):
        raise DataError(f"{where}.{key} is empty: restore the file from a copy")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}.{key} holds half a surrogate pair (U+D800-U+DFFF)") from None
    return value


def _value(node: object, key: str, where: str, kind: type[T], kind_name: str) -> T:
    value = node.get(key) if isinstance(node, dict) else None
    if value is None:
        raise DataError(f"{where}.{key} is missing: this is not SQuAD 1.1")
    if not isinstance(value, kind):
        raise DataError(f"{where}.{key} is not {kind_name}: this is not SQuAD 1.1")
    return value
