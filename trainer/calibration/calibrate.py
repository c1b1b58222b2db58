"""Fits a calibration on evaluation sets, and measures it on languages and corpora left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import OnProgress
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.fit import JudgedRanking, fit_calibration, held_out_relevances
from service.retrieval.relevance.measures import Features
from trainer.calibration.judged import JudgedCorpus
from trainer.calibration.measured import measures_by_group
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import DataError

# Ten observations a weight, of which the best hit has five (Peduzzi et al. 1996).
LEAST_OF_A_KIND = 50
LANGUAGE_OUT, CORPUS_OUT = "language left out", "corpus left out"


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
        languages: of the queries; all if empty.
        cache: keeps embeddings.
        on_progress: called while texts are embedded, and with the stage `fit`.

    Raises:
        DataError: the best hit answers fewer than `LEAST_OF_A_KIND` queries, or all but fewer.
    """
    judged: list[JudgedRanking] = []
    backgrounds = {}
    for each in sets:
        corpus = JudgedCorpus(each, encoder, cache, on_progress)
        backgrounds[each.name] = corpus.background
        judged += _sharing_one(list(corpus.judge(languages)))
    num_answered = sum(each.is_answered for each in judged)
    if min(num_answered, len(judged) - num_answered) < LEAST_OF_A_KIND:
        raise DataError(
            f"the best hit answers {num_answered} of {len(judged)} searches, with passages left "
            f"out and off topic: at least {LEAST_OF_A_KIND} that it answers are needed, and "
            f"{LEAST_OF_A_KIND} that it does not: name more sets or languages"
        )
    on_progress("fit", 0, None)
    held_out = {LANGUAGE_OUT: _held_out(judged, lambda ranking: ranking.language)}
    if len(sets) > 1:
        held_out[CORPUS_OUT] = _held_out(judged, lambda ranking: ranking.corpus)
    facts = {
        "sets": sorted(backgrounds),
        "queries": len(judged),
        "measured": {name: measures_by_group(judged, values) for name, values in held_out.items()},
    }
    return Outcome(fit_calibration(judged, encoder.fingerprint, facts), judged, held_out)


def _sharing_one(judged: Sequence[JudgedRanking]) -> list[JudgedRanking]:
    """Return the rankings of a set with weights whose sum is 1, so that sets weigh the same."""
    total = sum(each.weight for each in judged)
    return [
        replace(each, weight=each.weight / total, measured_weight=each.measured_weight / total)
        for each in judged
    ]


def _held_out(judged: Sequence[JudgedRanking], group: Callable[[JudgedRanking], str]) -> Features:
    return held_out_relevances(judged, [group(each) for each in judged])
