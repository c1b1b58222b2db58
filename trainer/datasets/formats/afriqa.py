"""AfriQA's gold passages: questions in African languages, their translations, English passages.

Files are `gold_span_passages.afriqa.<language>.en.<split>.json`, JSON lines. Passages have no id in
them: theirs is the hash of title and text. Titles are part of a positive, as in the service.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.storage.json_lines import read_json_lines
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH, canonical_language
from trainer.data.rows import MAX_LINE_BYTES, Row
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import expect_files, open_source
from trainer.errors import DataError

FILE = re.compile(r"gold_span_passages\.afriqa\.(?P<language>\w+)\.en\.(?P<split>\w+)\.json")
ID_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class _Record:
    query_id: str
    language: str
    split: str
    query: str
    translated_query: str
    passage: Passage


def import_afriqa(
    directory: Path,
    *,
    languages: Sequence[str] = (),
    train_split: str = "train",
    evaluation_split: str = "dev",
) -> ImportedDataset:
    """Make rows of one split and an evaluation set of another.

    The corpus holds the passages of all splits in the folder, so that those of the training split
    are distractors.

    Args:
        directory: of the files.
        languages: to import; all by default.
        train_split: of the rows.
        evaluation_split: of the queries.

    Raises:
        DataError: there is no such file, or a line is not valid (file:line).
    """
    files = _files(directory, languages)
    expect_files(files)
    skipped: Counter[str] = Counter()
    records = [record for path in files for record in _records(path, skipped)]
    return ImportedDataset(
        name="afriqa",
        licence="CC BY 4.0",
        url="https://github.com/masakhane-io/afriqa",
        files=tuple(files),
        rows=[_row(record) for record in records if record.split == train_split],
        evaluation=_judged(records, evaluation_split),
        skipped=skipped,
        notes=(
            f"rows: split {train_split}; queries: split {evaluation_split}; "
            "corpus: the passages of all splits",
        ),
    )


def _files(directory: Path, languages: Sequence[str]) -> list[Path]:
    found = []
    for path in sorted(directory.rglob("gold_span_passages.afriqa.*.json")):
        match = FILE.fullmatch(path.name)
        if match and (not languages or canonical_language(match["language"]) in languages):
            found.append(path)
    if not found:
        raise DataError(
            f"{directory} holds no gold_span_passages.afriqa.<language>.en.<split>.json"
            f"{' of ' + ', '.join(languages) if languages else ''}: name the folder of AfriQA"
        )
    return found


def _records(path: Path, skipped: Counter[str]) -> Iterator[_Record]:
    match = FILE.fullmatch(path.name)
    assert match
    language = canonical_language(match["language"])
    lines = read_json_lines(
        path, DataError, MAX_LINE_BYTES, nan_is_null=True, open_file=open_source
    )
    for origin, parse in lines:
        record = parse()
        if not isinstance(record, dict) or "question_lang" not in record:
            raise DataError(f"{origin} is not a record of AfriQA: it lacks `question_lang`")
        texts = {}
        for name in ("id", "question_translated", "question_lang", "context", "title"):
            value = record.get(name)
            if not isinstance(value, str | None):
                raise DataError(f"{origin} has `{name}` that is not text")
            texts[name] = " ".join((value or "").split())
        missing = [name for name, value in texts.items() if not value and name != "title"]
        if missing:
            skipped[f"no {missing[0]}"] += 1
            continue
        passage = Passage(_passage_id(texts["title"], texts["context"]), texts["context"])
        passage = Passage(passage.passage_id, passage.text, texts["title"])
        yield _Record(
            f"afriqa.{language}.{match['split']}.{texts['id']}",
            language,
            match["split"],
            texts["question_translated"],
            texts["question_lang"],
            passage,
        )


def _passage_id(title: str, text: str) -> str:
    return hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:ID_CHARACTERS]


def _row(record: _Record) -> Row:
    return Row(
        query=record.query,
        translated_query=record.translated_query,
        language=record.language,
        passage_id=record.passage.passage_id,
        positive=record.passage.encoder_text,
        query_id=record.query_id,
    )


def _judged(records: Sequence[_Record], split: str) -> EvaluationData | None:
    passages = {record.passage.passage_id: record.passage for record in records}
    queries: dict[str, list[Query]] = {ENGLISH: []}
    qrels = {}
    for record in records:
        if record.split == split:
            article = record.passage.title or record.passage.passage_id
            queries[ENGLISH].append(Query(record.query_id, record.query, article))
            queries.setdefault(record.language, []).append(
                Query(record.query_id, record.translated_query, article)
            )
            qrels[record.query_id] = {record.passage.passage_id: 1}
    return EvaluationData({ENGLISH: list(passages.values())}, queries, qrels) if qrels else None
