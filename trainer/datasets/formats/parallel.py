"""The user's own parallel data: a table of training rows, or line-aligned texts of documents.

A table is `.jsonl`, `.parquet` or `.arrow`, with columns named by role. Texts are
`<name>.<language>.txt` with one sentence a line, aligned by line, with English among them;
`documents.tsv` names the document of each line (without it, all lines are one document).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.languages import ENGLISH, canonical_language
from trainer.datasets.formats.lines import DOCUMENTS, import_lines, read_lines
from trainer.datasets.formats.table import read_table, table_files
from trainer.datasets.imported import ImportedDataset
from trainer.errors import DataError

TEXT = re.compile(r"(?P<name>.+)\.(?P<language>[A-Za-z]{2,3}(?:[-_]\w+)*)\.txt")


def import_parallel(
    source: Path,
    *,
    languages: Sequence[str] = (),
    by_position: bool = False,
    held_out_share: float = 0.0,
    seed: int = 0,
) -> ImportedDataset:
    """Make rows of a table or of texts, and an evaluation set of held-out documents.

    Args:
        source: the file or folder of a table, or a folder of texts.
        languages: the language of a table, also of one without a column `language`; of texts, those
            to import.
        by_position: take the roles of a table's columns by their order.
        held_out_share: of the documents of texts, for evaluation.
        seed: selects them.

    Raises:
        DataError: a row is not valid (file:line), or there is neither a table nor a text.
    """
    if tables := table_files(source):
        if held_out_share:
            raise DataError(
                f"{source} is a table, which names no documents to hold out: leave "
                "--held-out-share out"
            )
        return _import_table(source, tables, languages, by_position)
    texts = {}
    for path in sorted(source.glob("*.txt")) if source.is_dir() else []:
        if match := TEXT.fullmatch(path.name):
            texts[_language(path, match["language"])] = path
    if ENGLISH not in texts:
        raise DataError(
            f"{source} holds neither a table (.jsonl, .parquet, .arrow) nor <name>.en.txt: see "
            "`clear-trainer import --help`"
        )
    if by_position:
        raise DataError(f"{source} is no table, whose columns have a position: leave --by-position")
    documents = source / DOCUMENTS
    return import_lines(
        source.resolve().name,
        texts,
        read_lines(documents) if documents.is_file() else ["all"] * len(read_lines(texts[ENGLISH])),
        languages=languages,
        held_out_share=held_out_share,
        seed=seed,
    )


def _import_table(
    source: Path, tables: Sequence[Path], languages: Sequence[str], by_position: bool
) -> ImportedDataset:
    if len(languages) > 1:
        raise DataError(f"{source} is a table: name one --language, or add a column `language`")
    language = languages[0] if languages else None
    return ImportedDataset(
        name=source.name.partition(".")[0],
        licence="unknown",
        url=source.name,
        files=tuple(tables),
        rows=[
            row
            for row in read_table(source, language=language, by_position=by_position)
            if language in (None, row.language)  # a column `language` has others, too
        ],
    )


def _language(path: Path, code: str) -> str:
    try:
        return canonical_language(code)
    except ValueError as error:
        raise DataError(f"{path} has an unknown language in its name: {error}") from None
