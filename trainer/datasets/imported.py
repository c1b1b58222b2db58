"""The result of reading a published data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.evaluation_set import EvaluationData
from trainer.data.rows import Row


@dataclass(frozen=True)
class ImportedDataset:
    """Training rows, an evaluation set, or both, and their source.

    Attributes:
        name: of the data set; the start of its ids.
        licence: of its texts, as SPDX or Creative Commons names it, or `unknown`.
        url: where it is published.
        files: the files that were read.
        rows: for training.
        evaluation: for evaluation; None if there is nothing to evaluate on.
        skipped: how many records of the files were left out, by reason.
        notes: sentences for the data card.
    """

    name: str
    licence: str
    url: str
    files: tuple[Path, ...]
    rows: Sequence[Row] = ()
    evaluation: EvaluationData | None = None
    skipped: Mapping[str, int] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
