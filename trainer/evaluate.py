"""Measures an encoder on XQuAD through the very code that serves: a built, opened index."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.assembly import OnProgress
from service.retrieval.building import build_index
from service.retrieval.encoder import Encoder
from service.retrieval.generation import open_current
from service.retrieval.searcher import Searcher
from trainer.measures import mean_measures, require_ir_measures
from trainer.trec import Run, make_runs_directory, write_run
from trainer.xquad import ENGLISH, Query, XquadFile, judge

TOP_K = 100
WINDOW_QUERIES = 256


@dataclass(frozen=True, slots=True)
class LanguageResult:
    """What one query language reached."""

    language: str
    num_queries: int
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an encoder reached, and what it takes to repeat that."""

    encoder_name: str
    fingerprint: str
    max_tokens: int
    device: str
    runtime: str
    num_passages: int
    languages: tuple[LanguageResult, ...]

    @property
    def macro_mean(self) -> dict[str, float]:
        """Average the measures over the languages, each counting the same."""
        count = len(self.languages)
        return {
            key: sum(result.measures[key] for result in self.languages) / count
            for key in self.languages[0].measures
        }


def evaluate(
    encoder: Encoder,
    data: Mapping[str, XquadFile],
    languages: Sequence[str],
    on_progress: OnProgress = lambda stage, done, total: None,
    *,
    runs: Path | None = None,
) -> Evaluation:
    """Search the English passages with each language's queries.

    Args:
        encoder: embeds both.
        data: XQuAD by language; English, whose passages are searched, must be there.
        languages: of the queries, at least one.
        on_progress: is told of the stages of `build_index`, then of `search <language>`.
        runs: a folder for one TREC run file a language.

    Raises:
        TrainerError: `ir-measures` is missing, the files do not belong together, or a run file
            cannot be written.
        RetrievalError: the passages cannot be indexed.
    """
    require_ir_measures()
    english = data[ENGLISH]
    qrels = {language: judge(data[language], english) for language in languages}
    if runs:
        make_runs_directory(runs)
    with tempfile.TemporaryDirectory(prefix="clear-evaluate-") as folder:
        searcher = _english_searcher(encoder, english, Path(folder), on_progress)
        results = []
        for language in languages:
            run = _search(searcher, data[language].queries, f"search {language}", on_progress)
            if runs:
                write_run(runs / f"xquad.{language}-{ENGLISH}.run", run, encoder.name)
            measures = mean_measures(qrels[language], run)
            results.append(LanguageResult(language, len(run), measures))
    return _evaluation(encoder, len(english.passages), results)


def _evaluation(
    encoder: Encoder, num_passages: int, results: Sequence[LanguageResult]
) -> Evaluation:
    return Evaluation(
        encoder_name=encoder.name,
        fingerprint=encoder.fingerprint,
        max_tokens=encoder.max_tokens,
        device=str(encoder.device),
        runtime=encoder.runtime.name,
        num_passages=num_passages,
        languages=tuple(results),
    )


def _english_searcher(
    encoder: Encoder, english: XquadFile, index: Path, on_progress: OnProgress
) -> Searcher:
    passages = ((f"{english.path}: {passage.passage_id}", passage) for passage in english.passages)
    build_index(passages, index, encoder, on_progress=on_progress)
    # On the CPU whatever the encoder's device: FAISS searches in half precision on a GPU.
    return Searcher(encoder, open_current(index))


def _search(
    searcher: Searcher, queries: Sequence[Query], stage: str, on_progress: OnProgress
) -> Run:
    run = {}
    for start in range(0, len(queries), WINDOW_QUERIES):
        window = queries[start : start + WINDOW_QUERIES]
        answers = searcher.search([query.text for query in window], TOP_K)
        for query, hits in zip(window, answers, strict=True):
            run[query.query_id] = {hit.passage.passage_id: hit.score for hit in hits}
        on_progress(stage, len(run), len(queries))
    return run
