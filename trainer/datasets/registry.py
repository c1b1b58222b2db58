"""The data set formats by name, and how to read a data set in one of them.

The module loads quickly, because the command line lists the formats: their modules, which need
pyarrow, are imported when one is read.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.storage.hub import HubKind, resolve_path_or_hub_name
from trainer.datasets.source_files import report_bytes
from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.datasets.imported import ImportedDataset

# Kind -> its description; `import_<kind>` of `trainer.datasets.formats.<kind>` reads it.
KINDS = {
    "afriqa": "AfriQA gold passages: rows of train, an evaluation set of dev",
    "ntrex": "NTREX-128: rows by inverse cloze, documents held out for evaluation",
    "squad": "SQuAD 1.1 and its translations: rows",
    "mlqa": "MLQA: an evaluation set of every language",
    "belebele": "Belebele: an evaluation set of every language",
    "parallel": "a table of rows, or line-aligned texts: rows, documents held out if asked",
    "sib200": "SIB-200: an evaluation set of FLORES sentences in every language",
    "tatoeba": "LASER's Tatoeba pairs: rows of sentences, sentences held out for evaluation",
    "tico19": "TICO-19: rows of sentences, documents held out for evaluation",
    "xquad": "XQuAD: an evaluation set of every language",
}
DATA_SETS = HubKind(
    noun="the data set",
    repository_type="dataset",
    file_patterns=("*.json", "*.jsonl", "*.parquet", "*.tsv", "*.txt", "*.arrow"),
    other_names="a folder, a file, or a Hub name with its commit (owner/name@commit)",
    error=DataError,
)


def read_dataset(
    kind: str,
    source: str,
    options: Mapping[str, Any],
    on_progress: OnProgress = ignore_progress,
) -> "ImportedDataset":
    """Read a data set.

    Args:
        kind: one of `KINDS`.
        source: its folder or file, or its Hub name with the commit.
        options: of the kind's importer; an empty value stands for its default.
        on_progress: called with the stage `read bytes`.

    Raises:
        DataError: a file is missing or bad, or the kind does not have an option.
    """
    path = find_dataset(source)
    importer = find_importer(kind)
    known = inspect.signature(importer).parameters
    given = given_options(options)
    for name in given:
        if name not in known:
            raise DataError(f"`import {kind}` has no --{name.replace('_', '-')}: leave it out")
    if "languages" in given:
        from trainer.data.languages import known_language  # langcodes takes 0.2 s to load

        given["languages"] = [known_language(code) for code in given["languages"]]
    with report_bytes(on_progress):
        return importer(path, **given)


def find_dataset(source: str) -> Path:
    """Return the folder or file of a data set, downloaded if it is a Hub name with its commit.

    Raises:
        DataError: it does not exist.
    """
    return resolve_path_or_hub_name(source, DATA_SETS)


def find_importer(kind: str) -> "Callable[..., ImportedDataset]":
    """Return the function that reads a kind of data set."""
    module = import_module(f"trainer.datasets.formats.{kind}")
    importer: Callable[..., ImportedDataset] = getattr(module, f"import_{kind}")
    return importer


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults, which are all empty."""
    return {name: value for name, value in options.items() if value not in (None, False, (), [])}
