"""From a published data set to training rows and an evaluation set, with their data card.

OUTPUT/rows.jsonl     training rows, where the data set is for training
OUTPUT/evaluation/    an evaluation set, where it is for evaluation
OUTPUT/card.json, README.md
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from service.retrieval.storage import artifact
from service.retrieval.storage.hub import HubKind, resolve_path_or_hub_name
from trainer.data.evaluation_set import CARD, read_evaluation_set, write_evaluation_set
from trainer.data.languages import known_language
from trainer.data.rows import write_rows
from trainer.datasets.card import Card, make_card
from trainer.datasets.decontamination import decontaminate
from trainer.datasets.imported import Imported
from trainer.errors import DataError, OutputError

ROWS, EVALUATION = "rows.jsonl", "evaluation"
DATA_SETS = HubKind(
    noun="the data set",
    repository_type="dataset",
    file_patterns=("*.json", "*.jsonl", "*.parquet", "*.tsv", "*.txt", "*.arrow"),
    other_names="a folder, a file, or a Hub name with its commit (owner/name@commit)",
    error=DataError,
)


def import_data(
    kind: str,
    source: str,
    output: Path,
    *,
    decontaminate_from: Sequence[Path] = (),
    keep_contaminated: bool = False,
    **options: Any,
) -> Card:
    """Import a data set.

    Args:
        kind: one of `KINDS`.
        source: its folder or file, or its Hub name with the commit.
        output: the folder to write to.
        decontaminate_from: evaluation sets whose passages and questions rows must not have.
        keep_contaminated: count such rows alone.
        options: of the kind's importer; None stands for its default.

    Raises:
        DataError: a file is missing or bad, or the kind does not know an option.
        OutputError: nothing can be written there.
    """
    imported = read_source(kind, source, options)
    sets = [read_evaluation_set(path) for path in decontaminate_from]
    rows, contamination = decontaminate(imported.rows, sets, keep=keep_contaminated)
    imported = dataclasses.replace(imported, rows=rows)
    if not rows and not imported.evaluation:
        raise DataError(f"{source} gives no row and no query: see the options of `import {kind}`")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be made ({error.strerror})") from None
    (output / ROWS).unlink(missing_ok=True)  # of another import
    if rows:
        write_rows(output / ROWS, rows)
    if imported.evaluation:
        write_evaluation_set(output / EVALUATION, imported.evaluation)
    card = make_card(
        imported,
        output,
        options={
            name: value for name, value in options.items() if value not in (None, False, (), [])
        },
        contamination=contamination,
        contamination_kept=keep_contaminated,
    )
    _write_card(card, output)
    return card


def find_source(source: str) -> Path:
    """Return the folder or file of a data set, downloaded if it is a Hub name with its commit.

    Raises:
        DataError: it does not exist.
    """
    return resolve_path_or_hub_name(source, DATA_SETS)


def read_source(kind: str, source: str, options: Mapping[str, Any]) -> Imported:
    """Read a data set with its kind's importer.

    Raises:
        DataError: a file is missing or bad, or the kind does not know an option.
    """
    path = find_source(source)
    importer: Callable[..., Imported] = getattr(
        import_module(f"trainer.datasets.formats.{kind}"), f"import_{kind}"
    )
    known = inspect.signature(importer).parameters
    given = {name: value for name, value in options.items() if value not in (None, False, (), [])}
    for name in given:
        if name not in known:
            raise DataError(f"`import {kind}` has no --{name.replace('_', '-')}: leave it out")
    if "languages" in given:
        given["languages"] = [known_language(code) for code in given["languages"]]
    return importer(path, **given)


def _write_card(card: Card, output: Path) -> None:
    content = artifact.canonical_json(card.as_dict())
    artifact.replace_file(output / CARD, content)
    artifact.replace_file(output / "README.md", card.as_markdown().encode())
    if card.queries:
        artifact.replace_file(output / EVALUATION / CARD, content)
