"""Retrieval quality by language: what an evaluation measured, and its grade in a word.

`clear-trainer evaluate` writes a record, `clear-trainer publish` puts it beside an encoder.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.retrieval.storage.schema import Document, JsonText

Grade = Literal["good", "fair", "poor", "unknown"]
QueryKind = Literal["questions", "statements"]
Ndcg = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# The nDCG@10 from which a language is good, and from which it is fair. A statement's passage says
# the same in English, so that it is found more often than the answer to a question.
THRESHOLDS: Mapping[QueryKind, tuple[float, float]] = {
    "questions": (0.8, 0.6),
    "statements": (0.97, 0.85),
}
# Codes of one language: data sets, detectors and callers use different ones.
SYNONYMS = {"bcl": "bik", "gug": "gn", "in": "id", "iw": "he", "nb": "no", "quy": "qu", "tl": "fil"}


class LanguageQuality(Document):
    """The nDCG@10 of one language's queries over English passages, and the number of queries."""

    questions: Ndcg | None = None
    statements: Ndcg | None = None
    n: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        if self.questions is None and self.statements is None:
            raise ValueError("has neither `questions` nor `statements`")
        return self

    @property
    def grade(self) -> Grade:
        """Return the grade of questions or that of statements, whichever is lower."""
        grades: list[Grade] = []
        for value, (good, fair) in (
            (self.questions, THRESHOLDS["questions"]),
            (self.statements, THRESHOLDS["statements"]),
        ):
            if value is not None:
                grades.append("good" if value >= good else "fair" if value >= fair else "poor")
        return max(grades, key=("good", "fair", "poor").index)


LanguageRecord = dict[JsonText, LanguageQuality]


def grade_of(record: LanguageRecord | None, language: str) -> Grade:
    """Return the grade of a language, or `unknown` if the record does not hold it.

    A tag that the record lacks is shortened from the right, as RFC 4647 (section 3.4) says:
    `zh-Hant-TW` is looked up as `zh-Hant`, then as `zh`.

    >>> record = {"ay": LanguageQuality(statements=0.6, n=800)}
    >>> grade_of(record, "ay-BO"), grade_of(record, "sw"), grade_of(None, "ay")
    ('poor', 'unknown', 'unknown')
    """
    if not record:
        return "unknown"
    if quality := record.get(language):  # each request asks, nearly always by the record's code
        return quality.grade
    by_code = {_comparable(code): quality for code, quality in record.items()}
    code = _comparable(language)
    while code:
        if code in by_code:
            return by_code[code].grade
        code = code.rpartition("-")[0]
    return "unknown"


def _comparable(code: str) -> str:
    language, *others = code.lower().split("-")
    return "-".join([SYNONYMS.get(language, language), *others])


def languages_content(record: LanguageRecord) -> dict[str, dict[str, object]]:
    """Return a record as JSON content."""
    return {code: quality.model_dump(exclude_none=True) for code, quality in record.items()}


def describe_languages(record: LanguageRecord | None) -> dict[str, dict[str, object]] | None:
    """Return a record as JSON content, each language with its grade; None without a record."""
    if not record:
        return None
    return {
        code: {"quality": record[code].grade, **entry}
        for code, entry in languages_content(record).items()
    }
