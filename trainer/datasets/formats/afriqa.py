"""AfriQA: questions in African languages, their translations, and English passages for some.

Files are `gold_span_passages.afriqa.<language>.en.<split>.json`, JSON lines. Passages have no id in
them: theirs is the hash of title and text. Titles are part of a positive, as in the service.
`queries.afriqa.<language>.en.<split>.json` holds questions without passages, for a frozen bridge.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.storage.json_lines import read_json_lines
from trainer.data.evaluation_set import EvaluationData, Query, texts_of
from trainer.data.languages import ENGLISH, canonical_language
from trainer.data.rows import MAX_LINE_BYTES, Row
from trainer.datasets.decontamination import letters_hash
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import expect_files, open_source
from trainer.errors import DataError

FILE = re.compile(r"gold_span_passages\.afriqa\.(?P<language>\w+)\.en\.(?P<split>\w+)\.json")
QUERIES_FILE = re.compile(r"queries\.afriqa\.(?P<language>\w+)\.en\.(?P<split>\w+)\.json")
GOLD_TEXTS = ("id", "question_translated", "question_lang", "context", "title")
QUERIES_TEXTS = ("id", "translated_question", "question")
ID_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class _Record:
    query_id: str
    language: str
    split: str
    query: str
    translated_query: str
    passage: Passage | None
    answers: tuple[str, ...]


def import_afriqa(
    directory: Path,
    *,
    languages: Sequence[str] = (),
    train_split: str = "train",
    evaluation_split: str = "dev",
) -> ImportedDataset:
    """Make rows of one split and an evaluation set of another.

    A question without a passage gives a row if no question with a passage equals it. The corpus
    holds the passages of all splits in the folder, so that those of the training split are
    distractors.

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
    records = _without_repeated(records, skipped)
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
    """Return the files, those with passages first."""
    found = []
    for pattern in (FILE, QUERIES_FILE):
        for path in sorted(directory.rglob("*.afriqa.*.json")):
            match = pattern.fullmatch(path.name)
            if match and (not languages or canonical_language(match["language"]) in languages):
                found.append(path)
    if not found:
        raise DataError(
            f"{directory} holds no gold_span_passages.afriqa.<language>.en.<split>.json and no "
            f"queries.afriqa.<language>.en.<split>.json"
            f"{' of ' + ', '.join(languages) if languages else ''}: name the folder of AfriQA"
        )
    return found


def _records(path: Path, skipped: Counter[str]) -> Iterator[_Record]:
    is_gold = FILE.fullmatch(path.name)
    match = is_gold or QUERIES_FILE.fullmatch(path.name)
    assert match
    language = canonical_language(match["language"])
    names = GOLD_TEXTS if is_gold else QUERIES_TEXTS
    kind = "afriqa" if is_gold else "afriqa.queries"
    lines = read_json_lines(
        path, DataError, MAX_LINE_BYTES, nan_is_null=True, open_file=open_source
    )
    for origin, parse in lines:
        record = parse()
        if not isinstance(record, dict) or names[2] not in record:
            raise DataError(f"{origin} is not a record of AfriQA: it lacks `{names[2]}`")
        texts = _texts(origin, record, names)
        missing = [name for name, value in texts.items() if not value and name != "title"]
        if missing:
            skipped[f"no {missing[0]}"] += 1
            continue
        passage, pivot = None, record.get("answer_pivot")
        if is_gold:
            title, context = texts["title"], texts["context"]
            passage = Passage(_passage_id(title, context), context, title)
        yield _Record(
            f"{kind}.{language}.{match['split']}.{texts['id']}",
            language,
            match["split"],
            texts[names[1]],
            texts[names[2]],
            passage,
            texts_of(pivot.get("text")) if isinstance(pivot, dict) else (),
        )


def _texts(origin: str, record: Mapping[str, object], names: Sequence[str]) -> dict[str, str]:
    texts = {}
    for name in names:
        value = record.get(name)
        if name == "id" and isinstance(value, int):  # as the files without passages have it
            value = str(value)
        if not isinstance(value, str | None):
            raise DataError(f"{origin} has `{name}` that is not text")
        texts[name] = " ".join((value or "").split())
    return texts


def _without_repeated(records: Sequence[_Record], skipped: Counter[str]) -> list[_Record]:
    """Leave out questions without a passage that are among those with one."""
    known = {
        (each.language, letters_hash(each.translated_query)) for each in records if each.passage
    }
    kept = []
    for record in records:
        key = record.language, letters_hash(record.translated_query)
        if record.passage is None and key in known:
            skipped["question also with a passage"] += 1
        else:
            kept.append(record)
    return kept


def _passage_id(title: str, text: str) -> str:
    return hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:ID_CHARACTERS]


def _row(record: _Record) -> Row:
    return Row(
        query=record.query,
        translated_query=record.translated_query,
        language=record.language,
        passage_id=record.passage.passage_id if record.passage else "",
        positive=record.passage.encoder_text if record.passage else "",
        query_id=record.query_id,
    )


def _judged(records: Sequence[_Record], split: str) -> EvaluationData | None:
    passages = {each.passage.passage_id: each.passage for each in records if each.passage}
    queries: dict[str, list[Query]] = {ENGLISH: []}
    qrels = {}
    for record in records:
        if record.passage and record.split == split:
            article = record.passage.title or record.passage.passage_id
            english = Query(record.query_id, record.query, article, record.answers)
            queries[ENGLISH].append(english)
            translated = replace(english, text=record.translated_query)
            queries.setdefault(record.language, []).append(translated)
            qrels[record.query_id] = {record.passage.passage_id: 1}
    return EvaluationData({ENGLISH: list(passages.values())}, queries, qrels) if qrels else None
