"""SQuAD 1.1 and its translations: rows of English questions, translated ones, English passages.

English is `train-v1.1.json`, `squad.en.json` or the Hub's `train-*.parquet`; a translation is
`<language>_squad-translate-train-train-v1.1.json` (MLQA's), `squad.<language>.json`, or the Hub's
`mlqa-translate-train.<language>/train-*.parquet`. Question ids join the files.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.squad_format import parallel_rows, read_squad
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import add_file, read_files
from trainer.errors import DataError

# On the Hub, SQuAD's dev split is called validation.
SPLITS = {"train": "train", "dev": "dev|validation"}
ENGLISH_FILE = r"(?:.*/)?(?:(?:{split})-v1\.1\.json|(?:{split})-[\w-]+\.parquet|squad\.en\.json)"
TRANSLATED_FILES = (
    r"(?:.*/)?(?P<language>\w+?)_squad-translate-train-(?:{split})-v1\.1\.json",
    r"(?:.*/)?mlqa-translate-train\.(?P<language>[\w-]+)/(?:{split})-[\w-]+\.parquet",
    r"(?:.*/)?squad\.(?P<language>[\w-]+)\.json",
)


def import_squad(
    directory: Path, *, languages: Sequence[str] = (), train_split: str = "train"
) -> ImportedDataset:
    """Make a row for each question and translation, or English rows if there is no translation.

    Args:
        directory: of the files.
        languages: of the translations to import; all by default.
        train_split: `train` or `dev`.

    Raises:
        DataError: English is missing, or a file is not SQuAD 1.1.
    """
    if train_split not in SPLITS:
        raise DataError(f"SQuAD has no split {train_split!r}: name train or dev")
    files = {ENGLISH: _english(directory, SPLITS[train_split])}
    for language, path in _translations(directory, SPLITS[train_split]).items():
        if not languages or language in languages:
            files[language] = path
    missing = [language for language in languages if language not in files]
    if missing:
        raise DataError(f"{directory} holds no translation into {missing[0]}: leave it out")
    contents = read_files(files, read_squad)
    return ImportedDataset(
        name="squad",
        licence="CC BY-SA 4.0",
        url="https://rajpurkar.github.io/SQuAD-explorer/",
        files=tuple(files.values()),
        rows=[
            row
            for language, file in contents.items()
            if language != ENGLISH or len(contents) == 1
            for row in parallel_rows("squad", contents[ENGLISH], file, language)
        ],
        notes=("XQuAD is made of the dev split: import with --decontaminate before you use both",),
    )


def _english(directory: Path, split: str) -> Path:
    pattern = re.compile(ENGLISH_FILE.format(split=split))
    for path in sorted(directory.rglob("*")):
        if pattern.fullmatch(path.as_posix()) and "translate" not in path.parent.name:
            return path
    raise DataError(
        f"{directory} holds no {split.partition('|')[0]}-v1.1.json: name the folder of SQuAD"
    )


def _translations(directory: Path, split: str) -> dict[str, Path]:
    patterns = [re.compile(each.format(split=split)) for each in TRANSLATED_FILES]
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        for pattern in patterns:
            if match := pattern.fullmatch(path.as_posix()):
                add_file(found, canonical_language(match["language"]), path)
    found.pop(ENGLISH, None)
    return found
