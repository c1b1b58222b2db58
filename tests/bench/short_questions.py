"""Writes an evaluation set of short questions in 24 languages on the demo's passages.

Run: python -m tests.bench.short_questions build/short-questions
     clear-trainer evaluate build/short-questions --against bundled-base \\
         --direction en-en --direction L-en

There are five questions of `short_questions.toml` about each of 40 countries. A passage is relevant
if it is about the country and states the fact. Questions on the same country are not independent.
`unanswered.*.jsonl` are 20 questions in each language that the passages do not answer, for
`clear-trainer calibrate`.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path

from babel import Locale

from service.retrieval.corpus.reader import Passage
from tests.bench.demo_set import write_demo_set
from trainer.calibration.judged import all_off_topic_questions
from trainer.data.evaluation_set import EvaluationData, Query

TEMPLATES = Path(__file__).with_suffix(".toml")
# Countries with the same name in CLDR and the Factbook.
COUNTRIES = tuple(
    "AR AU BR CA CL CN CO CU DE EG ES ET FI FR GH GR ID IN IQ IR "  # noqa: SIM905
    "IT JP KE KZ MA MX NG NO NP PE PK PL RU SA SE TH TZ UA UG VN".split()
)
ANSWERS: dict[str, Callable[[Passage], bool]] = {
    "capital": lambda passage: "Capital - name:" in passage.text or "(capital)" in passage.text,
    "resources": lambda passage: states_fact(passage, "Natural resources"),
    "exports": lambda passage: "Exports - commodities:" in passage.text,
    "languages": lambda passage: states_fact(passage, "Languages"),
    "climate": lambda passage: states_fact(passage, "Climate"),
}


def states_fact(passage: Passage, fact: str) -> bool:
    """Return whether a passage states a fact, alone or with others."""
    topic = str(passage.metadata["topic"]).partition(" - ")[0]
    return topic == fact or f"{fact}:" in passage.text or f"{fact} - {fact}:" in passage.text


def build_set(passages: list[Passage]) -> EvaluationData:
    """Return the questions about each country that its passages answer."""
    templates = tomllib.loads(TEMPLATES.read_text(encoding="utf-8"))
    english = Locale("en").territories
    qrels = {}
    for country in COUNTRIES:
        own = [each for each in passages if each.metadata["country"] == english[country]]
        for topic, answers in ANSWERS.items():
            if found := {passage.passage_id: 1 for passage in own if answers(passage)}:
                qrels[f"{country}.{topic}"] = found
    queries: dict[str, list[Query]] = {language: [] for language in templates}
    for language, by_topic in templates.items():
        names = Locale(language).territories
        for query_id in qrels:
            country, topic = query_id.split(".")
            text = by_topic[topic].format(names[country])
            queries[language].append(Query(query_id, text, article=country))
    return EvaluationData({"en": passages}, queries, qrels, unanswered=all_off_topic_questions())


if __name__ == "__main__":
    write_demo_set(__doc__, build_set)
