"""Fits a calibration on evaluation sets, and measures it on languages and corpora left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import OnProgress
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.fit import JudgedRanking, fit_calibration, held_out_relevances
from service.retrieval.relevance.measures import auroc, calibration_error, recall_at_precision
from service.retrieval.relevance.model import Features
from trainer.calibration.judged import JudgedCorpus
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import DataError

LANGUAGE_OUT, CORPUS_OUT = "language left out", "corpus left out"
POOLED = "all"
Measures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A calibration, the rankings it was fitted on, and their relevances when left out."""

    calibration: Calibration
    judged: Sequence[JudgedRanking]
    held_out: Mapping[str, Features]  # by what was left out

    @property
    def measured(self) -> dict[str, Any]:
        """Return the measures by what was left out, then by corpus and by language."""
        return self.calibration.model_dump()["measured"]  # type: ignore[no-any-return]


def calibrate(
    encoder: Encoder,
    sets: Sequence[EvaluationSet],
    languages: Sequence[str],
    cache: Path,
    on_progress: OnProgress,
) -> Outcome:
    """Fit a calibration for an encoder's query side.

    Args:
        encoder: encodes queries and passages.
        sets: evaluation sets with English passages.
        languages: of the queries; all by default.
        cache: keeps embeddings.
        on_progress: called while texts are embedded, and with the stage `fit`.

    Raises:
        DataError: the sets have no answered query.
    """
    judged: list[JudgedRanking] = []
    backgrounds = {}
    for each in sets:
        corpus = JudgedCorpus(each, encoder, cache, on_progress)
        backgrounds[each.name] = corpus.background
        judged += corpus.judge(languages)
    if len({each.is_answered for each in judged}) < 2:
        raise DataError(
            "no query of the sets is answered by its best hit: name other sets or languages"
        )
    on_progress("fit", 0, None)
    held_out = {LANGUAGE_OUT: _held_out(judged, lambda ranking: ranking.language)}
    if len(sets) > 1:
        held_out[CORPUS_OUT] = _held_out(judged, lambda ranking: ranking.corpus)
    facts = {
        "sets": sorted(backgrounds),
        "queries": len(judged),
        "measured": {name: _by_group(judged, values) for name, values in held_out.items()},
    }
    return Outcome(fit_calibration(judged, encoder.fingerprint, facts), judged, held_out)


def _held_out(judged: Sequence[JudgedRanking], group: Callable[[JudgedRanking], str]) -> Features:
    return held_out_relevances(judged, [group(each) for each in judged])


def _by_group(judged: Sequence[JudgedRanking], relevances: Features) -> dict[str, Any]:
    """Return the measures of all rankings, of each corpus, and of each language in it."""
    corpora = np.array([each.corpus for each in judged])
    languages = np.array([each.language for each in judged])
    found: dict[str, Any] = {POOLED: _measures(judged, relevances)}
    for corpus in sorted(set(corpora)):
        rows = np.flatnonzero(corpora == corpus)
        found[corpus] = {POOLED: _measures([judged[int(row)] for row in rows], relevances[rows])}
        for language in sorted(set(languages[rows])):
            chosen = rows[languages[rows] == language]
            part = [judged[int(row)] for row in chosen]
            found[corpus][language] = _measures(part, relevances[chosen])
    return found


def _measures(judged: Sequence[JudgedRanking], relevances: Features) -> Measures:
    labels = np.array([each.is_answered for each in judged])
    weights = np.array([each.weight for each in judged])
    is_mixed = len(set(labels.tolist())) == 2
    return {
        "queries": len(judged),
        "auroc": round(auroc(relevances, labels, weights), 4) if is_mixed else None,
        "ece": round(calibration_error(relevances, labels, weights), 4),
        "recall": round(recall_at_precision(relevances, labels, weights), 4),
    }
