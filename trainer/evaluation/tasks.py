"""The tasks of an evaluation set: a language in a direction, with the judgments that apply.

L is any language of a set but English. Directions, language of queries -> language of passages:

    en-en   English -> English             L-en    language -> English: what the service does
    L-L     language -> the same           en-L    English -> language
    mixed   language -> English and the same language in one pool, a relevant passage in each
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.data.evaluation_set import EvaluationSet, Query
from trainer.data.languages import ENGLISH

DIRECTIONS = ("en-en", "L-en", "L-L", "en-L", "mixed")
UNSEEN = "unseen passages"  # ends the name of a set without the queries trained on


@dataclass(frozen=True, slots=True)
class Task:
    """One language of an evaluation set in one direction."""

    set_name: str
    direction: str
    language: str
    query_language: str
    corpus_languages: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the name, query language first: `xquad.de-en`, `xquad.de-en+de`."""
        return f"{self.set_name}.{self.query_language}-{'+'.join(self.corpus_languages)}"


def list_tasks(
    evaluation_set: EvaluationSet, languages: Sequence[str], directions: Sequence[str]
) -> list[Task]:
    """Return the tasks of a set, one per language and direction."""
    queries, corpora = evaluation_set.queries, evaluation_set.passage_ids
    found = []
    for direction in DIRECTIONS:
        for language in dict.fromkeys([*queries, *corpora]):
            if (language == ENGLISH) != (direction == "en-en"):
                continue
            query_language = ENGLISH if direction.startswith("en-") else language
            corpus_languages = {
                "mixed": (ENGLISH, language),
                "en-en": (ENGLISH,),
                "L-en": (ENGLISH,),
            }.get(direction, (language,))
            is_available = query_language in queries and all(
                each in corpora for each in corpus_languages
            )
            is_wanted = direction in directions and (
                not languages or language in (*languages, ENGLISH)
            )
            if is_available and is_wanted:
                name = evaluation_set.name
                found.append(Task(name, direction, language, query_language, corpus_languages))
    return [task for task in found if judged_queries(evaluation_set, task)]


def judged_queries(evaluation_set: EvaluationSet, task: Task) -> list[Query]:
    """Return the queries that have a relevant passage in each corpus of a task."""
    pools = [
        {query.query_id for query in evaluation_set.judged_queries(task.query_language, language)}
        for language in task.corpus_languages
    ]
    wanted = set.intersection(*pools)
    queries = evaluation_set.queries[task.query_language]
    return [query for query in queries if query.query_id in wanted]


def task_qrels(
    evaluation_set: EvaluationSet, task: Task, query_ids: Mapping[str, Query]
) -> dict[str, dict[str, int]]:
    """Return the judgments of passages in a task's corpora, for some queries.

    In a pool of several corpora, a passage id is `<passage id>@<language>`.
    """
    is_pool = len(task.corpus_languages) > 1
    return {
        query_id: {
            f"{passage_id}@{language}" if is_pool else passage_id: relevance
            for language in task.corpus_languages
            for passage_id, relevance in evaluation_set.qrels[query_id].items()
            if passage_id in evaluation_set.passage_ids[language]
        }
        for query_id in query_ids
    }
