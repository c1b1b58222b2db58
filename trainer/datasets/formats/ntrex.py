"""NTREX-128: news in 128 languages, aligned by line, with the document of each line."""

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.lines import import_lines, read_lines
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import add_file
from trainer.errors import DataError

FILE = re.compile(r"newstest2019-(src|ref)\.(?P<language>[\w-]+)\.txt")
DOCUMENT_IDS = "DOCUMENT_IDS.tsv"
# The Portuguese of Portugal; as BCP 47 the code would be that of Brazil, which has its own file.
NAMES = {"por": "pt-PT"}


def import_ntrex(
    directory: Path,
    *,
    languages: Sequence[str] = (),
    held_out_share: float = 1 / 3,
    seed: int = 0,
    own_passages: bool = False,
) -> ImportedDataset:
    """Make rows of most documents and an evaluation set of the others.

    Args:
        directory: of `newstest2019-{src,ref}.<language>.txt` and `DOCUMENT_IDS.tsv`.
        languages: to import besides English; all by default.
        held_out_share: of the documents, for evaluation.
        seed: selects them.
        own_passages: use each sentence's English line as its passage.

    Raises:
        DataError: a file is missing, not UTF-8, or has another number of lines than the list of
            documents.
    """
    files = _files(directory)
    return import_lines(
        "ntrex",
        files,
        _documents(files[ENGLISH].with_name(DOCUMENT_IDS)),
        languages=languages,
        held_out_share=held_out_share,
        seed=seed,
        own_passages=own_passages,
        licence="CC BY-SA 4.0",
        url="https://github.com/MicrosoftTranslator/NTREX",
    )


def _files(directory: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("newstest2019-*.txt")):
        if match := FILE.fullmatch(path.name):
            code = match["language"]
            language = canonical_language(NAMES.get(code, code))
            add_file(found, language, path)
    if ENGLISH not in found:
        raise DataError(
            f"{directory} holds no newstest2019-src.eng.txt: name the folder of NTREX-128"
        )
    return found


def _documents(path: Path) -> list[str]:
    documents = read_lines(path)
    for number, name in enumerate(documents, start=1):
        if len(name.split()) != 1:
            raise DataError(f"{path}:{number} is not the name of a document")
    return documents
