"""Coverage: how well an encoder finds English passages, by language and kind of query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from service.retrieval.language_quality import QueryKind
from trainer.evaluation.measures import MAIN
from trainer.evaluation.result import Evaluation
from trainer.evaluation.significance import Interval, Sample, bootstrap


@dataclass(frozen=True, slots=True)
class Coverage:
    """The mean nDCG@10 of a language's queries of one kind, over all sets that have them."""

    language: str
    kind: QueryKind
    value: float
    interval: Interval
    num_queries: int


def measure_coverage(evaluation: Evaluation) -> list[Coverage]:
    """Return the coverage of each kind and language, from the tasks with English passages.

    English statements are left out: they are their own passages.
    """
    found = []
    for kind in get_args(QueryKind):
        directions = ("en-en", "L-en") if kind == "questions" else ("L-en",)
        samples = _samples(evaluation, kind, directions)
        if samples:
            intervals, _ = bootstrap(list(samples.values()))
            found += [
                Coverage(
                    language,
                    kind,
                    sum(sample.values.values()) / len(sample.values),
                    interval,
                    len(sample.values),
                )
                for (language, sample), interval in zip(samples.items(), intervals, strict=True)
            ]
    return found


def _samples(
    evaluation: Evaluation, kind: QueryKind, directions: Sequence[str]
) -> dict[str, Sample]:
    """Join the queries of a language from all sets of a kind."""
    values: dict[str, dict[str, float]] = {}
    articles: dict[str, dict[str, str]] = {}
    for result in evaluation.results:
        task = result.task
        if task.direction in directions and evaluation.query_kinds.get(task.set_name) == kind:
            names = {query_id: f"{task.set_name}:{query_id}" for query_id in result.articles}
            values.setdefault(task.language, {}).update(
                {names[query_id]: value for query_id, value in result.values[MAIN].items()}
            )
            articles.setdefault(task.language, {}).update(
                {names[each]: f"{task.set_name}:{name}" for each, name in result.articles.items()}
            )
    return {language: Sample(values[language], articles[language]) for language in values}
