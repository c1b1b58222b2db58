"""The background of an index: the scores of general questions that say nothing of its topic."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.retrieval.relevance.model import DEPTH, tail_of
from service.retrieval.storage.schema import Document, JsonText

QUESTIONS = Path(__file__).parent / "questions.json"
# Equal corpora have equal manifests: digits in which two runs may differ are not recorded.
DECIMALS = 5

Number = Annotated[float, Field(allow_inf_nan=False)]


class Background(Document):
    """Means over the general questions, and the spread of their best scores.

    `best` is the mean of the best score, `tail` that of ranks 6 to 10; it is None in an index of
    fewer passages. `fingerprint` names the query side that encoded the questions.
    """

    fingerprint: JsonText
    best: Number
    spread: Number
    tail: Number | None = None


@cache
def general_questions() -> tuple[str, ...]:
    """Return the general questions, four in each of 32 languages."""
    by_language: dict[str, list[str]] = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    return tuple(question for questions in by_language.values() for question in questions)


def measure_background(
    fingerprint: str, rankings: Sequence[NDArray[np.float32]]
) -> Background | None:
    """Return the background from the scores that each general question found; None if none did.

    Args:
        fingerprint: of the query side.
        rankings: scores, best first, up to `DEPTH` a question.
    """
    found = [scores for scores in rankings if len(scores)]
    if not found:
        return None
    best = np.array([scores[0] for scores in found], np.float64)
    tails = [tail_of(scores.tolist()) for scores in found if len(scores) >= DEPTH]
    return Background(
        fingerprint=fingerprint,
        best=round(float(best.mean()), DECIMALS),
        spread=round(float(best.std()), DECIMALS),
        tail=round(float(np.mean(tails)), DECIMALS) if tails else None,
    )
