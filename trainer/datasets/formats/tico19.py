"""TICO-19: sentences about a pandemic, English -> 36 languages, one table a language.

Files are `tico19.en-<language>.tsv`, without header: document, English sentence, translation. All
tables have the same lines, with small differences in the English text.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.languages import canonical_language
from trainer.datasets.formats.lines import held_out_documents, read_raw_lines
from trainer.datasets.formats.sentence_pairs import (
    SentencePair,
    cell_text,
    pair_evaluation,
    pair_rows,
)
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import read_files
from trainer.errors import DataError

FILE = re.compile(r"tico19\.en-(?P<language>[\w-]+)\.tsv")
COLUMNS = 3
# Latin America; as BCP 47 the code would be Spanish of Laos.
NAMES = {"es-LA": "es-419"}


@dataclass(frozen=True, slots=True)
class _Line:
    document: str
    english: str
    translated: str


def import_tico19(
    directory: Path,
    *,
    languages: Sequence[str] = (),
    held_out_share: float = 1 / 5,
    seed: int = 0,
) -> ImportedDataset:
    """Make rows of most documents and an evaluation set of the others.

    Args:
        directory: of the files.
        languages: to import; all by default.
        held_out_share: of the documents, for evaluation.
        seed: selects them.

    Raises:
        DataError: there is no such file, a line has not three columns (file:line), or two files
            differ in number of lines or documents.
    """
    files = _files(directory, languages)
    tables = read_files({path: path for path in files}, _read_table)
    _check_aligned(tables)
    english = _common_english(list(tables.values()))
    documents = [line.document for line in next(iter(tables.values()))]
    held_out = held_out_documents(documents, held_out_share, seed)
    skipped: Counter[str] = Counter()
    pairs = []
    for path, lines in tables.items():
        for number, line in enumerate(lines):
            if not line.translated or not english[number]:
                skipped["no translation" if english[number] else "no English"] += 1
                continue
            sentence_id = f"tico19.{number}"
            pairs.append(
                SentencePair(
                    sentence_id, english[number], line.translated, files[path], line.document
                )
            )
    return ImportedDataset(
        name="tico19",
        licence="CC0-1.0",
        url="https://tico-19.github.io",
        files=tuple(files),
        rows=pair_rows(pairs, held_out),
        evaluation=pair_evaluation(pairs, held_out),
        skipped=skipped,
        notes=(
            f"{len(held_out)} of {len(set(documents))} documents held out (seed {seed}): their "
            "sentences are the queries and the corpus, and in no row",
        ),
    )


def _files(directory: Path, languages: Sequence[str]) -> dict[Path, str]:
    """Return the files with their languages; two files may be of one language."""
    found = {}
    for path in sorted(directory.rglob("tico19.en-*.tsv")):
        if match := FILE.fullmatch(path.name):
            code = match["language"]
            try:
                language = canonical_language(NAMES.get(code, code))
            except ValueError as error:
                raise DataError(f"{path} has an unknown language in its name: {error}") from None
            if not languages or language in languages:
                found[path] = language
    if not found:
        raise DataError(
            f"{directory} holds no tico19.en-<language>.tsv"
            f"{' of ' + ', '.join(languages) if languages else ''}: name the folder of TICO-19"
        )
    return found


def _read_table(path: Path) -> list[_Line]:
    lines = []
    for number, line in enumerate(read_raw_lines(path), start=1):
        cells = line.split("\t")
        if len(cells) != COLUMNS:
            raise DataError(
                f"{path}:{number} has {len(cells)} columns, not {COLUMNS}: write document, English "
                "and translation, with tabs between them"
            )
        if not cells[0].strip():
            raise DataError(
                f"{path}:{number} names no document: write the document's name in the first column"
            )
        document, english, translated = cells
        lines.append(_Line(document.strip(), cell_text(english), cell_text(translated)))
    return lines


def _check_aligned(tables: Mapping[Path, Sequence[_Line]]) -> None:
    first, expected = next(iter(tables.items()))
    for path, lines in tables.items():
        if len(lines) != len(expected):
            raise DataError(
                f"{path} has {len(lines)} lines, {first.name} has {len(expected)}: "
                "take all files from one release"
            )
        for number, (line, other) in enumerate(zip(lines, expected, strict=True), start=1):
            if line.document != other.document:
                raise DataError(
                    f"{path}:{number} is of the document {line.document!r}, in {first.name} of "
                    f"{other.document!r}: take all files from one release"
                )


def _common_english(tables: Sequence[Sequence[_Line]]) -> list[str]:
    """Return each line's English sentence as most tables have it; of equals, the first."""
    return [
        Counter(line.english for line in lines).most_common(1)[0][0]
        for lines in zip(*tables, strict=True)
    ]
