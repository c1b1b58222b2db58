"""A run of `evaluate`: measures encoders by name, compares them and writes the report.

OUTPUT/report.json   all results
OUTPUT/report.md     the tables
OUTPUT/report.html   the tables and plots, one self-contained page
OUTPUT/coverage*     each language's quality: a table (CSV), and plots (SVG) by kind of queries
OUTPUT/languages.json  the encoder's record of it, for `clear-trainer publish --languages`
OUTPUT/runs/         TREC run files, one folder per encoder
OUTPUT/indexes/      indexes of corpora and embeddings of queries, kept for later evaluations
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
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
from trainer.evaluation.gates import GateRule, Verdict, check_gates
from trainer.evaluation.result import Evaluation
from trainer.evaluation.tasks import DIRECTIONS
from trainer.output import refuse_run_folder
from trainer.report.coverage import (
    coverage_csv,
    coverage_markdown,
    coverage_sections,
    language_record,
)
from trainer.report.page import Training, html_page
from trainer.report.tables import evaluation_content, report_markdown
from trainer.report.worst import worst_content

INDEXES, RUNS, REPORT, PAGE = "indexes", "runs", "report.json", "report.html"
LANGUAGES = "languages.json"
VERSIONS = ("clear-search", "torch", "transformers", "numpy", "ir-measures")


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How to load encoders; the same for all encoders of a run."""

    device: str = "auto"
    max_tokens: int = 256
    cpu_engine: str = "torch"
    precision: str = "fp32"
    cache: Path | None = None

    def load(self, name: str) -> Encoder:
        """Load an encoder; raise the errors of `load_encoder` and `refuse_run_folder`."""
        refuse_run_folder(name)
        return load_encoder(
            name,
            cache=self.cache,
            device=self.device,
            max_tokens=self.max_tokens,
            cpu_engine=self.cpu_engine,
            precision=self.precision,
        )


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to measure."""

    languages: Sequence[str] = ()
    directions: Sequence[str] = DIRECTIONS
    seen: Mapping[str, frozenset[str]] | None = None
    margin: float = ENGLISH_MARGIN
    gates: Sequence[GateRule] = ()
    indexes: Path | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The evaluations of the encoder, the base and the control, and their comparisons."""

    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]
    verdicts: tuple[Verdict, ...] = ()
    worst: tuple[dict[str, Any], ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """Return whether the encoder passes all gates; true without a base."""
        passes_english = all(comparison.passes for comparison in self.comparisons[:1])
        return passes_english and all(verdict.passes for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return all results as JSON content."""
        return {
            "evaluations": [evaluation_content(each) for each in self.evaluations],
            "comparisons": [comparison_content(each) for each in self.comparisons],
            "gates": [{"passes": each.passes, "verdict": each.verdict} for each in self.verdicts],
            "worst": list(self.worst),
            "made": dict(self.made),
        }


def run_evaluation(
    sets: Sequence[EvaluationSet],
    encoder_name: str,
    *,
    against: str | None,
    also: Sequence[str] = (),
    with_control: bool,
    encoder_options: EncoderOptions,
    options: EvaluationOptions,
    on_progress: OnProgress,
) -> Outcome:
    """Measure an encoder and, if asked for, a base to compare with and a mean-centered control.

    Args:
        sets: evaluation sets.
        encoder_name: as `load_encoder` takes it.
        against: name of the base; without one, the encoder is the base of the control.
        also: names of further encoders, which are measured but not compared.
        with_control: also measure the base with mean-centered embeddings.
        encoder_options: how to load encoders.
        options: what to measure.
        on_progress: called with the stages, each prefixed with the encoder's name.

    Raises:
        TrainerError: no set has the directions and languages, or a file cannot be written.
        RetrievalError: an encoder or a corpus cannot be used.
    """
    evaluations = [_evaluate(sets, encoder_name, encoder_options, options, on_progress)]
    if against:
        evaluations.append(_evaluate(sets, against, encoder_options, options, on_progress))
    base = evaluations[-1]
    evaluations += [_evaluate(sets, name, encoder_options, options, on_progress) for name in also]
    on_progress("compare", 0, None)
    comparisons = [compare(evaluations[0], base, margin=options.margin)] if against else []
    verdicts = check_gates(comparisons[0], options.gates) if comparisons else []
    if with_control:
        name = against or encoder_name
        control = _evaluate(sets, name, encoder_options, options, on_progress, is_centered=True)
        evaluations.append(control)
        comparisons.append(compare(control, base, margin=options.margin))
    worst = worst_content(evaluations[0], sets)
    return Outcome(tuple(evaluations), tuple(comparisons), tuple(verdicts), tuple(worst), _made())


def write_outcome(output: Path, outcome: Outcome, training: Training) -> None:
    """Write the reports.

    Args:
        output: the folder to write to.
        outcome: evaluations and comparisons.
        training: what the page shows of training.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Keys are not sorted: sets, directions and languages keep their order.
        content = json.dumps(outcome.as_dict(), indent=1, ensure_ascii=False)
        artifact.replace_file(output / REPORT, content.encode())
        tables = report_markdown(outcome.evaluations, outcome.comparisons, outcome.verdicts)
        markdown = f"{tables}\n{coverage_markdown(json.loads(content))}".rstrip() + "\n"
        artifact.replace_file(output / "report.md", markdown.encode())
        page = html_page(json.loads(content), training)
        artifact.replace_file(output / PAGE, page.encode())
        _write_coverage(output, json.loads(content))
    except OSError as error:
        raise OutputError(
            f"reports cannot be written to {output} ({error.strerror}): name another folder"
        ) from None


def _made() -> dict[str, str]:
    """Return when, by which command and with which versions a report was made."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **{name: version(name) for name in VERSIONS},
    }


def _write_coverage(output: Path, content: dict[str, Any]) -> None:
    evaluations = content["evaluations"]
    if not evaluations[0]["coverage"]:
        return
    record = artifact.canonical_json(language_record(evaluations[0]))
    artifact.replace_file(output / LANGUAGES, record)
    artifact.replace_file(output / "coverage.csv", coverage_csv(evaluations).encode())
    for each in coverage_sections(content):
        artifact.replace_file(output / f"coverage-{each['kind']}.svg", each["svg"].encode())


def _evaluate(
    sets: Sequence[EvaluationSet],
    name: str,
    encoder_options: EncoderOptions,
    options: EvaluationOptions,
    on_progress: OnProgress,
    *,
    is_centered: bool = False,
) -> Evaluation:
    on_progress("load", 0, None)
    encoder = encoder_options.load(name)
    label = f"{encoder.name}, centred" if is_centered else encoder.name
    output = options.output
    return evaluate(
        encoder,
        sets,
        languages=options.languages,
        directions=options.directions,
        is_centered=is_centered,
        seen=options.seen,
        indexes=options.indexes or (output / INDEXES if output else None),
        runs=output / RUNS / re.sub(r"[^\w.-]+", "-", label) if output else None,
        on_progress=lambda stage, done, total: on_progress(f"{label}: {stage}", done, total),
    )
