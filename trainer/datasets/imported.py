"""What an import made of a published data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.evaluation_set import Judged
from trainer.data.rows import Row


@dataclass(frozen=True)
class Imported:
    """Training rows, an evaluation set, or both; and where they came from."""

    name: str
    licence: str
    url: str
    files: tuple[Path, ...]
    rows: Sequence[Row] = ()
    evaluation: Judged | None = None
    # Reason -> how many records of the files were left out.
    skipped: Mapping[str, int] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
