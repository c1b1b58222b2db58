"""Evaluation of an encoder on evaluation sets, through the service's own index and search."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.index.backend import MAX_TOP_K
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.searcher import Searcher
from trainer.data.evaluation_set import EvaluationSet
from trainer.data.trec import Run, make_runs_directory, write_run
from trainer.errors import DataError
from trainer.evaluation.corpora import Corpora, center, merge, rank
from trainer.evaluation.measures import pool_measures, query_measures, require_ir_measures
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import (
    DIRECTIONS,
    UNSEEN,
    Task,
    judged_queries,
    list_tasks,
    task_qrels,
)

TOP_K = 100
WINDOW_QUERIES = 256


def evaluate(
    encoder: Encoder,
    evaluation_sets: Sequence[EvaluationSet],
    *,
    languages: Sequence[str] = (),
    directions: Sequence[str] = DIRECTIONS,
    is_centered: bool = False,
    seen: Mapping[str, frozenset[str]] | None = None,
    indexes: Path | None = None,
    runs: Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Evaluation:
    """Measure an encoder on each set, in each direction that the set has.

    Args:
        encoder: encodes queries and passages.
        evaluation_sets: sets with different names.
        languages: languages to measure besides English; all by default.
        directions: some of `DIRECTIONS`.
        is_centered: subtract each language's mean embedding from queries and passages.
        seen: set name -> ids of the queries whose passage was trained on; the other queries are
            also reported separately.
        indexes: a folder that keeps indexes and query embeddings for later evaluations.
        runs: a folder for one TREC run file per task.
        on_progress: called with the stages `encode <set> <language>` and `search <set> <language>`.

    Raises:
        TrainerError: `ir-measures` is not installed, no set has the directions and languages, or
            a run file cannot be written.
        RetrievalError: the passages cannot be indexed.
    """
    require_ir_measures()
    tasks = _tasks(evaluation_sets, languages, directions)
    if runs:
        make_runs_directory(runs)
    results = []
    with tempfile.TemporaryDirectory(prefix="clear-evaluate-") as temporary:
        corpora = Corpora(encoder, indexes or Path(temporary), on_progress, is_centered=is_centered)
        for each in evaluation_sets:
            for result, run in _results(each, tasks[each.name], corpora, is_centered):
                if runs:
                    write_run(runs / f"{result.task.name}.run", run, encoder.name)
                results.append(result)
    for set_name, query_ids in (seen or {}).items():
        results += _unseen([each for each in results if each.task.set_name == set_name], query_ids)
    return Evaluation(
        encoder_name=encoder.name,
        fingerprint=encoder.fingerprint,
        passage_fingerprint=encoder.passage_fingerprint,
        max_tokens=encoder.max_tokens,
        device=str(encoder.device),
        runtime=encoder.runtime.name,
        control="mean-centred" if is_centered else None,
        num_passages={
            each.name: {language: len(ids) for language, ids in each.passage_ids.items()}
            for each in evaluation_sets
        },
        results=tuple(results),
        query_kinds={each.name: each.query_kind for each in evaluation_sets},
    )


def _tasks(
    evaluation_sets: Sequence[EvaluationSet], languages: Sequence[str], directions: Sequence[str]
) -> dict[str, list[Task]]:
    """Return the tasks of each set; raise DataError if no set has any."""
    tasks = {each.name: list_tasks(each, languages, directions) for each in evaluation_sets}
    if not any(tasks.values()):
        raise DataError(
            f"no set has the directions {', '.join(directions)}"
            f"{' in ' + ', '.join(languages) if languages else ''}: name others"
        )
    return tasks


def _results(
    evaluation_set: EvaluationSet,
    tasks: Sequence[Task],
    corpora: Corpora,
    is_centered: bool,
) -> Iterator[tuple[Result, Run]]:
    """Yield the result of each task; open each corpus and encode each language only once."""
    searchers: dict[str, Searcher] = {}
    embeddings: dict[str, Embeddings] = {}
    for task in tasks:
        for language in task.corpus_languages:
            if language not in searchers:
                searchers[language] = corpora.open(evaluation_set, language)
        queries = evaluation_set.queries[task.query_language]
        if task.query_language not in embeddings:
            found = corpora.encode_queries(evaluation_set, task.query_language)
            embeddings[task.query_language] = center(found) if is_centered else found
        judged = {query.query_id: query for query in judged_queries(evaluation_set, task)}
        rows = [row for row, query in enumerate(queries) if query.query_id in judged]
        run = _search(task, searchers, list(judged), embeddings[task.query_language][rows])
        qrels = task_qrels(evaluation_set, task, judged)
        values = query_measures(qrels, run)
        if task.direction == "mixed":
            values |= pool_measures(qrels, run)
        articles = {query_id: query.article for query_id, query in judged.items()}
        first = {name: max(found, key=found.__getitem__) for name, found in run.items() if found}
        yield Result(task, articles, values, first), run


def _search(
    task: Task,
    searchers: Mapping[str, Searcher],
    query_ids: Sequence[str],
    embeddings: Embeddings,
) -> Run:
    top_k = MAX_TOP_K if task.direction == "mixed" else TOP_K
    run: dict[str, Mapping[str, float]] = {}
    for start in range(0, len(query_ids), WINDOW_QUERIES):
        window = slice(start, start + WINDOW_QUERIES)
        pools = {
            language: rank(searchers[language], embeddings[window], top_k)
            for language in task.corpus_languages
        }
        ranked = merge(pools, top_k) if len(pools) > 1 else next(iter(pools.values()))
        run |= dict(zip(query_ids[window], ranked, strict=True))
    return run


def _unseen(results: Sequence[Result], seen: frozenset[str]) -> Iterator[Result]:
    """Restrict results to queries whose passage was not trained on; skip unchanged ones."""
    for result in results:
        kept = [query_id for query_id in result.articles if query_id not in seen]
        if 0 < len(kept) < len(result.articles):
            yield Result(
                replace(result.task, set_name=f"{result.task.set_name}, {UNSEEN}"),
                {query_id: result.articles[query_id] for query_id in kept},
                {
                    key: {query_id: values[query_id] for query_id in kept}
                    for key, values in result.values.items()
                },
            )
