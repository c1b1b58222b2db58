"""The calibration of an index by questions of its own, some answered by it and some not."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from service.retrieval.errors import RetrievalError
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.fit import JudgedRanking, fit_calibration, held_out_relevances
from service.retrieval.relevance.measures import auroc, calibration_error, recall_at_precision
from service.retrieval.relevance.model import DEPTH
from service.retrieval.searcher import Searcher
from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.storage.schema import Document, JsonText, schema_violation
from service.retrieval.text import is_blank

LEAST_QUESTIONS = 200
LEAST_OF_A_KIND = 20
MAX_LINE_BYTES = 1_000_000


class QuestionsError(RetrievalError):
    """A file of questions cannot be used."""


class Question(Document):
    """A question, and the passages that answer it; none if the corpus does not."""

    query: JsonText
    language: JsonText = ""
    passage_ids: list[JsonText]


@dataclass(frozen=True, slots=True)
class CalibratedIndex:
    """The calibration of an index, and its measures on questions that were left out of the fit."""

    calibration: Calibration
    measured: dict[str, float | int]


def read_questions(path: Path) -> list[Question]:
    """Read questions, one JSON object a line.

    Raises:
        QuestionsError: a line is wrong (file:line), or there are too few questions of a kind.
    """
    questions = list(_read(path))
    num_answered = sum(bool(question.passage_ids) for question in questions)
    least = min(num_answered, len(questions) - num_answered)
    if len(questions) < LEAST_QUESTIONS or least < LEAST_OF_A_KIND:
        raise QuestionsError(
            f"{path} has {len(questions)} questions, {num_answered} of them with `passage_ids`: at "
            f"least {LEAST_QUESTIONS} are needed, {LEAST_OF_A_KIND} with and {LEAST_OF_A_KIND} "
            "without: add some"
        )
    return questions


def _read(path: Path) -> Iterator[Question]:
    for origin, parse in read_json_lines(path, QuestionsError, MAX_LINE_BYTES):
        try:
            question = Question.model_validate(parse())
        except ValidationError as error:
            raise QuestionsError(
                f"{origin}: {schema_violation(error)}: write "
                '{"query": "...", "language": "de", "passage_ids": ["..."]}'
            ) from None
        if is_blank(question.query):
            raise QuestionsError(f"{origin}: `query` is blank: write a question")
        yield question


def calibrate_index(searcher: Searcher, questions: Sequence[Question]) -> CalibratedIndex:
    """Fit a calibration for an index and the query side of an encoder.

    Raises:
        QuestionsError: a passage is not in the index, or the best hit never answers, or always.
        EmbeddingError: a question has no unit vector.
    """
    _check_passages(searcher, questions)
    judged = _judge(searcher, questions)
    if len({each.is_answered for each in judged}) < 2:
        raise QuestionsError(
            "the best hit answers none of the questions, or all: check their `passage_ids`"
        )
    found = held_out_relevances(judged, ["index"] * len(judged))
    labels = np.array([each.is_answered for each in judged])
    weights = np.ones(len(judged))
    measured: dict[str, float | int] = {
        "questions": len(judged),
        "answered": int(labels.sum()),
        "auroc": round(auroc(found, labels, weights), 4),
        "ece": round(calibration_error(found, labels, weights), 4),
        "recall": round(recall_at_precision(found, labels, weights), 4),
    }
    facts: dict[str, Any] = {"measured": measured, "generation": searcher.generation.name}
    return CalibratedIndex(fit_calibration(judged, searcher.encoder.fingerprint, facts), measured)


def _check_passages(searcher: Searcher, questions: Sequence[Question]) -> None:
    for number, question in enumerate(questions, start=1):
        for passage_id in question.passage_ids:
            if searcher.generation.passages.find(passage_id) is None:
                raise QuestionsError(
                    f"question {number}: the index has no passage {json.dumps(passage_id)}: "
                    "correct `passage_ids`"
                )


def _judge(searcher: Searcher, questions: Sequence[Question]) -> list[JudgedRanking]:
    """Return the rankings of the questions, judged by their passages."""
    background = searcher.generation.manifest.background
    if background is None or background.fingerprint != searcher.encoder.fingerprint:
        background = searcher.measure_background()
    if background is None:
        raise QuestionsError("the encoder has no unit vector for some general questions")
    queries = [question.query for question in questions]
    found = searcher.search(queries, DEPTH, by_identifiers=False)
    return [
        JudgedRanking(
            np.array([hit.score for hit in hits], np.float32),
            np.array([hit.passage.passage_id in question.passage_ids for hit in hits], bool),
            background,
            "index",
            question.language,
        )
        for question, hits in zip(questions, found, strict=True)
        if hits
    ]
