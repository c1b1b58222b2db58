"""Belebele: questions about FLORES passages in 122 languages, one JSON lines file a language.

`link` identifies a passage in all languages, `link` and `question_number` a question; `dialect` is
the language. For evaluation only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.text import is_blank
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH, canonical_language
from trainer.data.rows import MAX_LINE_BYTES
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import expect_files, open_source
from trainer.errors import DataError

FIELDS = ("link", "question_number", "flores_passage", "question", "dialect")


@dataclass(frozen=True, slots=True)
class _Record:
    origin: str
    language: str
    passage: Passage
    query: Query


def import_belebele(directory: Path, *, languages: Sequence[str] = ()) -> ImportedDataset:
    """Make an evaluation set of queries and passages in all languages.

    Args:
        directory: of the files, `<language>_<script>.jsonl`, or one such file.
        languages: to import besides English; all by default.

    Raises:
        DataError: a line is not valid (file:line), English is missing or lacks a question, or a
            passage has two texts in one language.
    """
    files = [directory] if directory.is_file() else sorted(directory.rglob("*.jsonl"))
    expect_files(files)
    passages: dict[str, dict[str, Passage]] = {ENGLISH: {}}
    queries: dict[str, dict[str, Query]] = {ENGLISH: {}}
    read = []
    for path in files:
        for record in _records(path):
            if languages and record.language not in (*languages, ENGLISH):
                break
            _add_passage(record, passages.setdefault(record.language, {}))
            _add_query(record, queries.setdefault(record.language, {}))
            if path not in read:
                read.append(path)
    _check_english(directory, queries)
    qrels = {
        query_id: {query.article: 1}
        for by_id in queries.values()
        for query_id, query in by_id.items()
    }
    return ImportedDataset(
        name="belebele",
        licence="CC BY-SA 4.0",
        url="https://github.com/facebookresearch/belebele",
        files=tuple(read),
        evaluation=EvaluationData(
            {language: list(by_id.values()) for language, by_id in passages.items()},
            {language: list(by_id.values()) for language, by_id in queries.items()},
            qrels,
        ),
        notes=("evaluation only",),
    )


def _records(path: Path) -> Iterator[_Record]:
    for origin, parse in read_json_lines(path, DataError, MAX_LINE_BYTES, open_file=open_source):
        record = parse()
        if not isinstance(record, dict):
            raise DataError(f"{origin} is not a JSON object with {', '.join(FIELDS)}")
        texts = {}
        for name in FIELDS:
            value = record.get(name)
            if name == "question_number" and isinstance(value, int):
                value = str(value)
            if not isinstance(value, str) or is_blank(value):
                raise DataError(f"{origin} lacks `{name}`: this is not Belebele")
            texts[name] = value
        try:
            language = canonical_language(texts["dialect"])
        except ValueError as error:
            raise DataError(f"{origin} has an unknown language: {error}") from None
        link = "".join(texts["link"].split())
        query_id = f"{link}#{texts['question_number']}"
        passage = Passage(link, texts["flores_passage"], "", {"article": link})
        yield _Record(origin, language, passage, Query(query_id, texts["question"], link))


def _add_passage(record: _Record, passages: dict[str, Passage]) -> None:
    known = passages.setdefault(record.passage.passage_id, record.passage)
    if known.text != record.passage.text:
        raise DataError(f"{record.origin} gives its link another passage than a line before it")


def _add_query(record: _Record, queries: dict[str, Query]) -> None:
    if record.query.query_id in queries:
        raise DataError(f"{record.origin} repeats the link and question_number of a line before it")
    queries[record.query.query_id] = record.query


def _check_english(directory: Path, queries: dict[str, dict[str, Query]]) -> None:
    if not queries[ENGLISH]:
        raise DataError(f"{directory} holds no English Belebele (eng_Latn.jsonl): add that file")
    for language, by_id in queries.items():
        missing = sorted(by_id.keys() - queries[ENGLISH].keys())
        if missing:
            raise DataError(
                f"{directory}: English lacks the question {missing[0]}, asked in {language}: "
                "take all files from one release"
            )
