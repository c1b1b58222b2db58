"""XQuAD, SQuAD 1.1 questions and paragraphs in parallel languages, as queries and passages.

A paragraph's place in its file is its id (`a03.p02`: article 3, paragraph 2, from 0), so that a
passage has one id in all languages. Queries carry the file's own `qas` ids. Text joins nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service.retrieval.passages import Passage
from trainer.errors import DataError

ENGLISH = "en"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the passage that it was asked about."""

    query_id: str
    text: str
    passage_id: str


@dataclass(frozen=True, slots=True)
class XquadFile:
    """One language."""

    path: Path
    passages: tuple[Passage, ...]
    queries: tuple[Query, ...]


def xquad_languages(directory: Path) -> list[str]:
    """List the languages of a folder of `xquad.<language>.json`, English first.

    Raises:
        DataError: there is no such file.
    """
    names = [path.name for path in directory.glob("xquad.*.json")]
    languages = {name.removeprefix("xquad.").removesuffix(".json") for name in names}
    if not languages:
        raise DataError(f"{directory} holds no xquad.<language>.json: name the folder of XQuAD")
    return sorted(languages, key=lambda language: (language != ENGLISH, language))


def read_xquad(directory: Path, language: str) -> XquadFile:
    """Read one language.

    Raises:
        DataError: the file is missing or not SQuAD 1.1; the message names the place in it.
    """
    path = directory / f"xquad.{language}.json"
    passages: list[Passage] = []
    queries: dict[str, Query] = {}
    for where, passage_id, paragraph in _paragraphs(path):
        passages.append(Passage(passage_id, _text(paragraph, "context", where)))
        for number, question in enumerate(_list(paragraph, "qas", where)):
            place = f"{where}.qas[{number}]"
            query_id = _text(question, "id", place)
            if len(query_id.split()) != 1 or query_id in queries:
                raise DataError(f"{place}.id repeats an id of the file or holds white space")
            queries[query_id] = Query(query_id, _text(question, "question", place), passage_id)
    if not queries:
        raise DataError(f"{path} holds no questions: restore it from a copy")
    return XquadFile(path, tuple(passages), tuple(queries.values()))


def judge(queries: XquadFile, passages: XquadFile) -> dict[str, dict[str, int]]:
    """Join queries of one language with passages of another: qrels, by query id.

    Raises:
        DataError: a query is not in the passages' file.
    """
    relevant = {query.query_id: query.passage_id for query in passages.queries}
    for query in queries.queries:
        if query.query_id not in relevant:
            raise DataError(
                f"{queries.path}: the question {query.query_id} is not in {passages.path}: "
                "take both files from one release"
            )
    return {query.query_id: {relevant[query.query_id]: 1} for query in queries.queries}


def _paragraphs(path: Path) -> Iterator[tuple[str, str, object]]:
    """Walk a file: where a paragraph is, its passage id, its content."""
    root = f"{path}: $"  # JSONPath's name of the whole file
    for article_number, article in enumerate(_list(_read_json(path), "data", root)):
        where = f"{root}.data[{article_number}]"
        for number, paragraph in enumerate(_list(article, "paragraphs", where)):
            passage_id = f"a{article_number:02}.p{number:02}"
            yield f"{where}.paragraphs[{number}]", passage_id, paragraph


def _read_json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the folder") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not valid JSON: restore it from a copy") from None
    return content


def _list(node: object, key: str, where: str) -> list[object]:
    return _value(node, key, where, list, "a list")


def _text(node: object, key: str, where: str) -> str:
    value = _value(node, key, where, str, "text")
    if not value.strip():
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
