"""Writes an evaluation set of questions that hold an identifier, in twelve languages.

Run: python -m tests.bench.identifiers build/identifiers
     python -m tests.bench.identifier_gain build/identifiers

The corpus is the demo's passages and 840 records made from `identifiers.toml`, in seven kinds:
orders, spare parts, incidents, regulations, committees, products and invoices. The records of a
kind differ in little but their identifier, and each has neighbors whose identifier differs in one
character. A question asks about one of them, 63 in each language. Identifiers are also written as
people write them: in digits of the question's script, in small letters, in full width, with another
hyphen. `unanswered.*.jsonl` ask about identifiers that no record has.
"""

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from tests.bench.demo_set import write_demo_set
from trainer.data.evaluation_set import EvaluationData, Query

TEMPLATES = Path(__file__).with_suffix(".toml")
RECORDS_OF_A_KIND, QUESTIONS_OF_A_KIND, UNANSWERED_OF_A_KIND = 120, 9, 2
ZEROS = {"ar": "\u0660", "fa": "\u06f0", "hi": "\u0966", "ja": "\uff10", "zh": "\uff10"}
FULL_WIDTH = ("ja", "zh")
IN_ANY_CASE = ("order", "part", "incident")
CONSONANTS, VOWELS = "BCDFGKLMNPRSTVZ", "aeiou"


def identifiers_of(kind: str, source: random.Random) -> Iterator[str]:
    """Yield identifiers of a kind; every third one is a neighbor of the one before."""

    def letters(count: int) -> str:
        return "".join(source.choices(CONSONANTS, k=count))

    while True:
        number = source.randrange(1000, 9989)
        match kind:
            case "order":
                head = letters(2)
                yield from (f"{head}-{number}", f"{head}-{number + 1}", f"{letters(2)}-{number}")
            case "part":
                head, tail = letters(2), source.choice("BDKX")
                yield from (
                    f"{head}{number}{tail}",
                    f"{head}{number}A",
                    f"{head}{number + 10}{tail}",
                )
            case "incident":
                yield from (f"INC00{number}7", f"INC00{number}8", f"INC01{number}7")
            case "rule":
                year = source.randrange(1995, 2024)
                yield from (f"{year}/{number}", f"{year}/{number + 1}", f"{year - 1}/{number}")
            case "body":
                head = letters(3)
                yield from (f"{head}{letters(1)}", f"{head}{letters(1)}", letters(4))
            case "invoice":
                yield from (f"{number}", f"{number + 1}", f"{number + 10}")
            case _:
                head = "".join(
                    source.choice(CONSONANTS.lower()) + source.choice(VOWELS) for _ in range(3)
                ).title()
                yield from (f"{head}{tail}" for tail in source.sample(("nix", "ron", "dal"), 3))


def distinct(kind: str, source: random.Random, count: int) -> list[str]:
    """Return distinct identifiers of a kind."""
    found: dict[str, None] = {}
    for each in identifiers_of(kind, source):
        found[each] = None
        if len(found) == count:
            break
    return list(found)


def as_written(identifier: str, kind: str, language: str, number: int) -> str:
    """Return an identifier as the question of this number writes it."""
    if number % 3 == 1 and language in ZEROS:
        zero = ord(ZEROS[language])
        identifier = "".join(
            chr(zero + int(each)) if each.isdigit() else each for each in identifier
        )
        if language in FULL_WIDTH:
            identifier = "".join(
                chr(ord(each) + 0xFEE0) if each.isascii() else each for each in identifier
            )
    elif number % 3 == 1 and kind in IN_ANY_CASE:
        identifier = identifier.lower()
    if number % 3 == 2:
        identifier = identifier.replace("-", "\u2011")
    return identifier


def build_set(passages: list[Passage]) -> EvaluationData:
    """Return the questions, and the passages with the records among them."""
    content = tomllib.loads(TEMPLATES.read_text(encoding="utf-8"))
    source = random.Random(24)
    records, qrels = [], {}
    queries: dict[str, list[Query]] = {language: [] for language in content["questions"]}
    unanswered: dict[str, list[Query]] = {language: [] for language in content["questions"]}
    for kind, template in content["records"].items():
        spare = len(queries) * UNANSWERED_OF_A_KIND
        known = distinct(kind, source, RECORDS_OF_A_KIND + spare)
        source.shuffle(known)
        unknown = [known.pop() for _ in range(spare)]
        for number, identifier in enumerate(known):
            words = {name: source.choice(values) for name, values in content["words"].items()}
            numbers = {"day": source.randrange(1, 29), "count": source.randrange(2, 99)}
            year = source.randrange(2001, 2025)
            text = template.format(identifier, **words, **numbers, year=year)
            records.append(Passage(f"{kind}.{number}", text))
        for place, (language, own) in enumerate(queries.items()):
            question = content["questions"][language][kind]
            for number in range(QUESTIONS_OF_A_KIND):
                row = (place * QUESTIONS_OF_A_KIND + number) % RECORDS_OF_A_KIND
                query_id = f"{kind}.{language}.{number}"
                own.append(
                    Query(query_id, question.format(as_written(known[row], kind, language, number)))
                )
                qrels[query_id] = {f"{kind}.{row}": 1}
            for number in range(UNANSWERED_OF_A_KIND):
                identifier = as_written(unknown.pop(), kind, language, number)
                unanswered[language].append(
                    Query(f"unknown.{kind}.{number}", question.format(identifier))
                )
    return EvaluationData({"en": [*passages, *records]}, queries, qrels, unanswered=unanswered)


if __name__ == "__main__":
    write_demo_set(__doc__, build_set)
