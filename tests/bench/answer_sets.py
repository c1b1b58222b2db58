"""Questions, the passages that answer them, and where in these: XQuAD and AfriQA's dev set."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.corpus.reader import Passage
from service.retrieval.evidence.segments import Span
from tests.bench.texts import LANGUAGES


@dataclass(frozen=True)
class Question:
    """A question, the row of the passage that answers it, and where in its text the answer is."""

    text: str
    row: int
    answer: Span


Questions = dict[str, list[Question]]


def read_xquad(folder: Path, most: int) -> tuple[list[Passage], Questions]:
    """Return the English paragraphs, and their questions in each language, evenly spread."""
    passages: list[Passage] = []
    places: dict[str, tuple[int, Span]] = {}
    for article, paragraph in _paragraphs(folder / "xquad.en.json"):
        title = article["title"].replace("_", " ")
        passages.append(Passage(str(len(passages)), paragraph["context"], title))
        for question in paragraph["qas"]:
            answer = question["answers"][0]
            start = answer["answer_start"]
            places[question["id"]] = len(passages) - 1, (start, start + len(answer["text"]))
    asked = {}
    for language in ("en", *(each for each in LANGUAGES if each != "en")):
        paragraphs = _paragraphs(folder / f"xquad.{language}.json")
        found = [each for _, paragraph in paragraphs for each in paragraph["qas"]]
        every = max(1, len(found) // most)
        asked[language] = [Question(each["question"], *places[each["id"]]) for each in found][
            ::every
        ]
    return passages, asked


def _paragraphs(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for article in json.loads(path.read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            yield article, paragraph


def read_afriqa(folder: Path, most: int) -> tuple[list[Passage], Questions]:
    """Return the English passages of the dev sets, and the questions, also as translated ("en")."""
    passages: dict[str, Passage] = {}
    asked: Questions = {"en": []}
    for path in sorted(folder.glob("gold_span_passages.afriqa.*.en.dev.json")):
        language = path.name.split(".")[2]
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            context, pivot = item["context"], item["answer_pivot"]
            places = zip(pivot["answer_start"], pivot["text"], strict=False)
            start, text = next(places, (0, ""))
            if not text or not context.startswith(text, start):
                continue
            passage = passages.setdefault(
                context, Passage(str(len(passages)), context, item["title"])
            )
            place = int(passage.passage_id), (start, start + len(text))
            if len(asked.setdefault(language, [])) < most:
                asked[language].append(Question(item["question_lang"], *place))
                asked["en"].append(Question(item["question_translated"], *place))
    return list(passages.values()), asked
