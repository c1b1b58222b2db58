"""XQuAD: `xquad.<language>.json`, or the Hub's folders; for evaluation only."""

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.squad_format import evaluation_data, read_squad
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import add_file, read_files
from trainer.errors import DataError

FILE = re.compile(r"(?:.*/)?xquad\.(?P<language>[\w-]+)(?:\.json|/[\w-]+\.parquet)")


def import_xquad(directory: Path, *, languages: Sequence[str] = ()) -> ImportedDataset:
    """Make an evaluation set of queries and passages in all languages.

    Args:
        directory: of the files.
        languages: to import besides English; all by default.

    Raises:
        DataError: English is missing, or a file is not SQuAD 1.1.
    """
    files = xquad_files(directory)
    missing = [language for language in languages if language not in files]
    if missing:
        raise DataError(f"{directory} holds no xquad.{missing[0]}.json: leave that language out")
    chosen = {
        language: path
        for language, path in files.items()
        if language == ENGLISH or not languages or language in languages
    }
    contents = read_files(chosen, read_squad)
    return ImportedDataset(
        name="xquad",
        licence="CC BY-SA 4.0",
        url="https://github.com/google-deepmind/xquad",
        files=tuple(chosen.values()),
        evaluation=evaluation_data(contents),
        notes=("evaluation only: SQuAD 1.1's development set and its translations",),
    )


def xquad_files(directory: Path) -> dict[str, Path]:
    """Return the files of a folder by language, English first.

    Raises:
        DataError: there is no English file.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        if match := FILE.fullmatch(path.as_posix()):
            add_file(found, canonical_language(match["language"]), path)
    if ENGLISH not in found:
        raise DataError(f"{directory} holds no xquad.en.json: name the folder of XQuAD")
    return dict(sorted(found.items(), key=lambda item: (item[0] != ENGLISH, item[0])))
