"""The worst questions of each language: what was asked, and what came first."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from service.retrieval.corpus.reader import Passage, read_passages
from trainer.data.evaluation_set import EvaluationSet
from trainer.data.languages import ENGLISH
from trainer.evaluation.measures import MAIN
from trainer.evaluation.result import Evaluation, Result

NUM_WORST = 10
CHARACTERS = 160  # of a passage that is shown


def worst_content(evaluation: Evaluation, sets: Sequence[EvaluationSet]) -> list[dict[str, Any]]:
    """Return the worst questions with English passages, by set and language, as JSON content.

    Args:
        evaluation: of the encoder.
        sets: those that were measured.

    Raises:
        RetrievalError: a corpus cannot be read.
    """
    found = []
    for each in sets:
        results = [result for result in evaluation.results if _counts(result, each)]
        worst = [_worst(result) for result in results]
        pairs = list(zip(results, worst, strict=True))
        wanted = {result.first[query] for result, queries in pairs for query in queries}
        passages = _passages(each, wanted) if wanted else {}
        found += [_entry(each, result, queries, passages) for result, queries in pairs if queries]
    return found


def _entry(
    evaluation_set: EvaluationSet,
    result: Result,
    queries: Sequence[str],
    passages: Mapping[str, Passage],
) -> dict[str, Any]:
    task = result.task
    texts = {query.query_id: query.text for query in evaluation_set.queries[task.query_language]}
    questions = [
        {
            "query_id": query,
            "query": texts[query],
            MAIN: result.values[MAIN][query],
            "first_id": result.first[query],
            "first": _shown(passages[result.first[query]]),
        }
        for query in queries
    ]
    return {"set": task.set_name, "language": task.language, "questions": questions}


def _counts(result: Result, evaluation_set: EvaluationSet) -> bool:
    task = result.task
    return task.set_name == evaluation_set.name and task.direction in ("en-en", "L-en")


def _worst(result: Result) -> list[str]:
    """Return the ids of the worst queries, the worst first; none that was answered perfectly."""
    values = result.values[MAIN]
    order = sorted((values[query], query) for query in result.first if values[query] < 1)
    return [query for _, query in order[:NUM_WORST]]


def _passages(evaluation_set: EvaluationSet, ids: Collection[str]) -> dict[str, Passage]:
    corpus = read_passages(evaluation_set.corpus_path(ENGLISH))
    return {passage.passage_id: passage for _, passage in corpus if passage.passage_id in ids}


def _shown(passage: Passage) -> str:
    text = f"{passage.title}: {passage.text}" if passage.title else passage.text
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1].rstrip()}…"
