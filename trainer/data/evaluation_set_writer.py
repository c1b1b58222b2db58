"""Writes evaluation sets."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.progress import OnProgress, counted, ignore_progress
from service.retrieval.storage import artifact
from trainer.data.evaluation_set import QRELS, QRELS_HEADER, EvaluationData, Query, file_name
from trainer.data.trec import Qrels
from trainer.errors import OutputError


def write_evaluation_set(
    directory: Path, data: EvaluationData, on_progress: OnProgress = ignore_progress
) -> None:
    """Write an evaluation set; one that is in the folder already is replaced as a whole.

    Args:
        directory: to write to.
        data: of the set.
        on_progress: called with the stage `write evaluation set` and the records of all files.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    if directory.exists() and not (directory / QRELS[0]).is_file() and any(directory.iterdir()):
        raise OutputError(f"{directory} holds something else: name another folder")
    try:
        with artifact.temporary_directory(directory.parent, f".{directory.name}-") as temporary:
            done, total = 0, sum(len(records) for _, records in _files(data))
            for name, records in _files(data):
                lines = counted(records, "write evaluation set", on_progress, total, done)
                _write_lines(temporary / name, map(_record, lines))
                done += len(records)
            _write_qrels(temporary / QRELS[0], data.qrels)
            shutil.rmtree(directory, ignore_errors=True)
            artifact.publish_directory(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None


def _files(data: EvaluationData) -> Iterator[tuple[str, Sequence[Passage | Query]]]:
    for language, passages in data.passages.items():
        yield file_name("corpus", language), passages
    for language, queries in data.queries.items():
        yield file_name("queries", language), queries
    for language, queries in data.unanswered.items():
        yield file_name("unanswered", language), queries


def _record(each: Passage | Query) -> dict[str, object]:
    if isinstance(each, Query):
        metadata: dict[str, object] = {"article": each.article}
        if each.answers:
            metadata["answers"] = list(each.answers)
        return {"_id": each.query_id, "text": each.text, "metadata": metadata}
    return {
        "_id": each.passage_id,
        "title": each.title,
        "text": each.text,
        "metadata": dict(each.metadata),
    }


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
