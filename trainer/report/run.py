"""The command `evaluate`: names of sets and encoders in, figures and files out.

OUTPUT/report.json   all that was measured
OUTPUT/report.md     the tables
OUTPUT/report.html   the tables and plots, one self-contained page
OUTPUT/runs/         TREC run files, a folder an encoder
OUTPUT/indexes/      the embedded corpora, for the next time
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.progress import OnProgress
from service.retrieval.storage import artifact
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import OutputError
from trainer.evaluation.comparison import ENGLISH_MARGIN, Comparison, compare, comparison_content
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.result import Evaluation
from trainer.evaluation.tasks import DIRECTIONS
from trainer.report.page import Training, html_page
from trainer.report.tables import evaluation_content, report_markdown

INDEXES, RUNS, REPORT, PAGE = "indexes", "runs", "report.json", "report.html"


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How to load encoders; all of them alike."""

    device: str = "auto"
    max_tokens: int = 256
    cpu_engine: str = "torch"
    precision: str = "fp32"
    cache: Path | None = None

    def load(self, name: str) -> Encoder:
        """Load one; errors are those of `load_encoder`."""
        return load_encoder(
            name,
            cache=self.cache,
            device=self.device,
            max_tokens=self.max_tokens,
            cpu_engine=self.cpu_engine,
            precision=self.precision,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    languages: Sequence[str] = ()
    directions: Sequence[str] = DIRECTIONS
    seen: Mapping[str, frozenset[str]] | None = None
    margin: float = ENGLISH_MARGIN
    indexes: Path | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The encoder's evaluation first, then its base's and the control's; what differs from base."""

    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def passes(self) -> bool:
        """Say whether English is kept; an encoder alone cannot fail."""
        return all(comparison.passes for comparison in self.comparisons[:1])

    def as_dict(self) -> dict[str, Any]:
        """Lay out all that was measured for JSON."""
        return {
            "evaluations": [evaluation_content(each) for each in self.evaluations],
            "comparisons": [comparison_content(each) for each in self.comparisons],
        }


def run_evaluation(
    sets: Sequence[EvaluationSet],
    encoder_name: str,
    *,
    against: str | None,
    with_control: bool,
    options: EncoderOptions,
    plan: Plan,
    on_progress: OnProgress,
) -> Outcome:
    """Measure an encoder, a base to hold it against, and the base mean-centred.

    Args:
        sets: to measure on.
        encoder_name: as `load_encoder` takes it.
        against: the base; without one, the encoder is its own.
        with_control: measure the base mean-centred, too.
        options: how to load encoders.
        plan: what to measure.
        on_progress: is told of the stages, each with its encoder's name.

    Raises:
        TrainerError: a set lacks what is asked for, or a file cannot be written.
        RetrievalError: an encoder or a corpus cannot be used.
    """
    evaluations = [_evaluate(sets, encoder_name, options, plan, on_progress)]
    if against:
        evaluations.append(_evaluate(sets, against, options, plan, on_progress))
    base = evaluations[-1]
    comparisons = [compare(evaluations[0], base, margin=plan.margin)] if against else []
    if with_control:
        name = against or encoder_name
        control = _evaluate(sets, name, options, plan, on_progress, is_centered=True)
        evaluations.append(control)
        comparisons.append(compare(control, base, margin=plan.margin))
    return Outcome(tuple(evaluations), tuple(comparisons))


def write_outcome(output: Path, outcome: Outcome, training: Training) -> None:
    """Write the reports.

    Args:
        output: the folder.
        outcome: what was measured.
        training: what the page shows beside.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Not sorted: sets, directions and languages keep their order.
        content = json.dumps(outcome.as_dict(), indent=1, ensure_ascii=False)
        artifact.replace_file(output / REPORT, content.encode())
        markdown = report_markdown(outcome.evaluations, outcome.comparisons)
        artifact.replace_file(output / "report.md", markdown.encode())
        page = html_page(json.loads(content), training)
        artifact.replace_file(output / PAGE, page.encode())
    except OSError as error:
        raise OutputError(
            f"reports cannot be written to {output} ({error.strerror}): name another folder"
        ) from None


def _evaluate(
    sets: Sequence[EvaluationSet],
    name: str,
    options: EncoderOptions,
    plan: Plan,
    on_progress: OnProgress,
    *,
    is_centered: bool = False,
) -> Evaluation:
    encoder = options.load(name)
    label = f"{encoder.name}, centred" if is_centered else encoder.name
    output = plan.output
    return evaluate(
        encoder,
        sets,
        languages=plan.languages,
        directions=plan.directions,
        is_centered=is_centered,
        seen=plan.seen,
        indexes=plan.indexes or (output / INDEXES if output else None),
        runs=output / RUNS / re.sub(r"[^\w.-]+", "-", label) if output else None,
        on_progress=lambda stage, done, total: on_progress(f"{label}: {stage}", done, total),
    )
