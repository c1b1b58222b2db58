"""SIB-200: sentences of FLORES-200 in about 200 languages; for evaluation only.

Files are `<language>_<script>/<split>.tsv` with the header `index_id category text`; `index_id`
joins languages. Belebele's passages are made of the same sentences.
"""

from collections.abc import Sequence
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.lines import read_raw_lines
from trainer.datasets.formats.sentence_pairs import cell_text
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import read_files
from trainer.errors import DataError

HEADER = ["index_id", "category", "text"]


def import_sib200(
    directory: Path, *, languages: Sequence[str] = (), evaluation_split: str = ""
) -> ImportedDataset:
    """Make an evaluation set: from a sentence in another language to its English sentence.

    Args:
        directory: of the languages' folders.
        languages: to import besides English; all by default.
        evaluation_split: `train`, `dev` or `test`; all files in the folder by default.

    Raises:
        DataError: English is missing, a line is not valid (file:line), or a language has a
            sentence that English lacks.
    """
    files = _files(directory, languages, evaluation_split)
    texts: dict[str, dict[str, str]] = {}
    for path, sentences in read_files({path: path for path in files}, _read_table).items():
        by_id = texts.setdefault(files[path], {})
        if repeated := sorted(by_id.keys() & sentences.keys()):
            raise DataError(f"{path} repeats the index_id {repeated[0]} of another file")
        by_id |= sentences
    if ENGLISH not in texts:
        raise DataError(f"{directory} holds no eng_Latn/*.tsv: name the folder of SIB-200")
    english = texts.pop(ENGLISH)
    for language, by_id in texts.items():
        if missing := sorted(by_id.keys() - english.keys()):
            raise DataError(
                f"{directory}: English lacks the index_id {missing[0]}, which {language} has: "
                "take all files from one release"
            )
    return ImportedDataset(
        name="sib200",
        licence="CC BY-SA 4.0",
        url="https://github.com/dadelani/sib-200",
        files=tuple(files),
        evaluation=EvaluationData(
            {ENGLISH: [Passage(f"sib200.{number}", text) for number, text in english.items()]},
            {
                language: [Query(f"sib200.{number}", text) for number, text in by_id.items()]
                for language, by_id in texts.items()
            },
            {f"sib200.{number}": {f"sib200.{number}": 1} for number in english},
            "statements",
        ),
        notes=("evaluation only: Belebele's passages are made of these sentences",),
    )


def _files(directory: Path, languages: Sequence[str], split: str) -> dict[Path, str]:
    found = {}
    for path in sorted(directory.rglob(f"{split or '*'}.tsv")):
        try:
            language = canonical_language(path.parent.name)
        except ValueError as error:
            raise DataError(f"{path.parent} is not named by a language: {error}") from None
        if not languages or language in (ENGLISH, *languages):
            found[path] = language
    return found


def _read_table(path: Path) -> dict[str, str]:
    header, *lines = read_raw_lines(path)
    if header.split("\t") != HEADER:
        raise DataError(f"{path}:1 is not the header {' '.join(HEADER)} with tabs between")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(HEADER) or not cell_text(cells[2]):
            raise DataError(f"{path}:{number} lacks one of {', '.join(HEADER)}")
        if cells[0] in found:
            raise DataError(f"{path}:{number} repeats the index_id {cells[0]}")
        found[cells[0]] = cell_text(cells[2])
    return found
