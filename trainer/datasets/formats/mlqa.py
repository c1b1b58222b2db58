"""MLQA: questions and contexts in seven languages, joined by question id.

Not every question is in every language. Files are
`<split>-context-<language>-question-<language>.json`, or the Hub's
`mlqa.<context>.<question>/<split>-*.parquet`. `import squad` reads MLQA's translations of SQuAD.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.squad_format import evaluation_data, read_squad
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import add_file, read_files
from trainer.errors import DataError

FILES = (
    r"(?:.*/)?(?:{split})-context-(?P<context>\w+)-question-(?P<question>\w+)\.json",
    r"(?:.*/)?mlqa\.(?P<context>\w+)\.(?P<question>\w+)/(?:{split})-[\w-]+\.parquet",
)
SPLITS = {"dev": "dev|validation", "test": "test"}


def import_mlqa(
    directory: Path, *, languages: Sequence[str] = (), evaluation_split: str = "dev"
) -> ImportedDataset:
    """Make an evaluation set of questions and contexts in each language and in English.

    Args:
        directory: of the files.
        languages: to import besides English; all by default.
        evaluation_split: `dev` or `test`.

    Raises:
        DataError: English is missing, a file is not SQuAD 1.1, or English lacks a question.
    """
    if evaluation_split not in SPLITS:
        raise DataError(f"MLQA has no split {evaluation_split!r}: name dev or test")
    files = {
        language: path
        for language, path in _files(directory, SPLITS[evaluation_split]).items()
        if language == ENGLISH or not languages or language in languages
    }
    contents = read_files(files, read_squad)
    return ImportedDataset(
        name="mlqa",
        licence="CC BY-SA 3.0",
        url="https://github.com/facebookresearch/MLQA",
        files=tuple(files.values()),
        evaluation=evaluation_data(contents),
        notes=(f"queries: split {evaluation_split}",),
    )


def _files(directory: Path, split: str) -> dict[str, Path]:
    """Find the files whose context and questions are in one language."""
    patterns = [re.compile(each.format(split=split)) for each in FILES]
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        for pattern in patterns:
            match = pattern.fullmatch(path.as_posix())
            if match and match["context"] == match["question"]:
                add_file(found, canonical_language(match["context"]), path)
    if ENGLISH not in found:
        raise DataError(
            f"{directory} holds no {split.partition('|')[0]}-context-en-question-en.json: "
            "name the folder of MLQA"
        )
    return dict(sorted(found.items(), key=lambda item: (item[0] != ENGLISH, item[0])))
