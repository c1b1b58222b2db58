"""Imports a published data set: training rows, an evaluation set and their data card.

OUTPUT/rows.jsonl     training rows, if the data set is for training
OUTPUT/evaluation/    an evaluation set, if it is for evaluation
OUTPUT/card.json, README.md
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.retrieval.progress import OnProgress, counted, ignore_progress
from service.retrieval.storage import artifact
from trainer.data.evaluation_set import CARD, QRELS, EvaluationSet
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import write_rows
from trainer.datasets.card import DataCard, make_card
from trainer.datasets.decontamination import decontaminate
from trainer.datasets.registry import given_options, read_dataset
from trainer.errors import DataError, OutputError
from trainer.output import exclusive_output, refuse_input, refuse_other_files

ROWS, EVALUATION = "rows.jsonl", "evaluation"


def import_data(
    kind: str,
    source: str,
    output: Path,
    *,
    decontaminate_from: Sequence[Path] = (),
    keep_contaminated: bool = False,
    on_progress: OnProgress = ignore_progress,
    **options: Any,
) -> DataCard:
    """Import a data set.

    Args:
        kind: one of `registry.KINDS`.
        source: its folder or file, or its Hub name with the commit.
        output: the folder to write to.
        decontaminate_from: evaluation sets; rows with a passage or question of them are removed.
        keep_contaminated: count such rows, but keep them.
        on_progress: called with the stages, each with its number of all but the first.
        options: of the kind's importer; an empty value stands for its default.

    Raises:
        DataError: a file is missing or bad, or the kind does not have an option.
        OutputError: the output is an input, has other content, or cannot be written,
            or another run writes to it.
    """
    _refuse_content(output, (Path(source), *decontaminate_from))
    with exclusive_output(output):
        sets = _read_evaluation_sets(decontaminate_from, on_progress)
        on_progress("read", 0, None)
        imported = read_dataset(kind, source, options, on_progress)
        rows, contamination = decontaminate(
            imported.rows, sets, keep=keep_contaminated, on_progress=on_progress
        )
        imported = dataclasses.replace(imported, rows=rows)
        if not rows and not imported.evaluation:
            raise DataError(
                f"{source} gives no row and no query: check the options of `import {kind}`"
            )
        (output / ROWS).unlink(missing_ok=True)  # of an earlier import
        if rows:
            write_rows(output / ROWS, counted(rows, "write rows", on_progress, len(rows)))
        if imported.evaluation:
            write_evaluation_set(output / EVALUATION, imported.evaluation, on_progress)
        card = make_card(
            imported,
            output,
            options=given_options(options),
            contamination=contamination,
            contamination_kept=keep_contaminated,
        )
        _write_card(card, output)
    return card


def _refuse_content(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output whose files are read, or are not those of an import."""
    for written in (output, output / ROWS, output / EVALUATION):
        refuse_input(written, inputs)
    refuse_other_files(output, (ROWS, EVALUATION, "README.md"), CARD)
    if found := next((name for name in QRELS if (output / name).exists()), None):
        raise OutputError(
            f"{output} is an evaluation set ({found}), whose {CARD} would be replaced: "
            "name another folder"
        )


def _read_evaluation_sets(paths: Sequence[Path], on_progress: OnProgress) -> list[EvaluationSet]:
    read = counted(paths, "read evaluation sets", on_progress, len(paths)) if paths else ()
    return [read_evaluation_set(path) for path in read]


def _write_card(card: DataCard, output: Path) -> None:
    content = artifact.canonical_json(card.as_dict())
    artifact.replace_file(output / CARD, content)
    artifact.replace_file(output / "README.md", card.as_markdown().encode())
    if card.queries:
        artifact.replace_file(output / EVALUATION / CARD, content)
