"""Writes evaluation sets."""

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.storage import artifact
from trainer.data.evaluation_set import QRELS, QRELS_HEADER, EvaluationData, Query, file_name
from trainer.data.trec import Qrels
from trainer.errors import OutputError


def write_evaluation_set(directory: Path, data: EvaluationData) -> None:
    """Write an evaluation set; one that is in the folder already is replaced as a whole.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    if directory.exists() and not (directory / QRELS[0]).is_file() and any(directory.iterdir()):
        raise OutputError(f"{directory} holds something else: name another folder")
    try:
        with artifact.temporary_directory(directory.parent, f".{directory.name}-") as temporary:
            for language, passages in data.passages.items():
                records = (_passage_record(passage) for passage in passages)
                _write_lines(temporary / file_name("corpus", language), records)
            for language, queries in data.queries.items():
                records = (_query_record(query) for query in queries)
                _write_lines(temporary / file_name("queries", language), records)
            _write_qrels(temporary / QRELS[0], data.qrels)
            shutil.rmtree(directory, ignore_errors=True)
            artifact.publish_directory(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None


def _passage_record(passage: Passage) -> dict[str, object]:
    return {
        "_id": passage.passage_id,
        "title": passage.title,
        "text": passage.text,
        "metadata": dict(passage.metadata),
    }


def _query_record(query: Query) -> dict[str, object]:
    return {"_id": query.query_id, "text": query.text, "metadata": {"article": query.article}}


def _write_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_qrels(path: Path, qrels: Qrels) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerow(QRELS_HEADER)
        for query_id, judgments in qrels.items():
            for passage_id, relevance in judgments.items():
                writer.writerow([query_id, passage_id, relevance])
