"""Tables of training rows: a column for each role, found by name or by order.

Names are those of training rows or those of CLEAR's public data. The tables of that data have
3 + 2 N columns, thirteen for five negatives, in this order: English query, passage, N negative
passages, translated query, N negative queries. A cell is one text.

Source: the public code of CLEAR (arXiv 2604.05821), its example data and its README.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.retrieval.corpus.parquet import batch_records, repeated_name
from service.retrieval.storage.json_lines import read_json_lines
from trainer.data.rows import MAX_LINE_BYTES, Row, row_of
from trainer.datasets.source_files import expect_files, open_source
from trainer.errors import DataError

# The names of columns by role.
QUERY = ("query", "anchor", "en_question")
POSITIVE = ("positive", "paragraphs", "passage")
TRANSLATED = ("translated_query", "cross_anchor", "lang_question")
NEGATIVE = re.compile(r"(?:hard_negative|negative|neg)_(\d+)")
NEGATIVE_QUERY = re.compile(r"(?:hard_negative_query|negative_query|neg_query)_(\d+)")
IDS = ("language", "passage_id", "query_id", "group_id")
ID_CHARACTERS = 16
SUFFIXES = (".jsonl", ".ndjson", ".gz", ".parquet", ".arrow")
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The column of each role."""

    query: str
    positive: str
    translated_query: str
    negatives: tuple[str, ...]
    negative_queries: tuple[str, ...]

    def row(self, origin: str, record: Record, language: str | None) -> Row:
        """Make a row of a record; a missing id is the hash of its text.

        Raises:
            DataError: a cell is empty or not text, or roles contradict each other.
        """
        positive, query = record.get(self.positive), record.get(self.query)
        negatives = [record.get(name) for name in self.negatives]
        ids = {name: record[name] for name in IDS if record.get(name) is not None}
        ids.setdefault("passage_id", _hash(positive))
        ids.setdefault("query_id", _hash(query))
        if language:
            ids.setdefault("language", language)
        return row_of(
            origin,
            {
                "query": query,
                "translated_query": record.get(self.translated_query),
                "positive": positive,
                "hard_negatives": negatives,
                "hard_negative_ids": [_hash(text) for text in negatives],
                "hard_negative_queries": [record.get(name) for name in self.negative_queries],
                **ids,
            },
        )


def read_table(
    path: Path, *, language: str | None = None, by_position: bool = False
) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: `.jsonl`, `.parquet`, `.arrow`, or a folder of `.arrow` or `.parquet` files.
        language: of the translated queries, if there is no column `language`.
        by_position: take the roles of columns by their order.

    Raises:
        DataError: a row is not valid (file:row), or there is none.
    """
    empty = True
    files = table_files(path)
    expect_files(files)
    for file in files:
        columns: TableColumns | None = None
        for origin, record in _records(file):
            if columns is None:
                columns = find_columns(origin, list(record), by_position)
            yield columns.row(origin, record, language)
            empty = False
    if empty:
        raise DataError(f"{path} holds no rows: name a table with rows")


def table_files(path: Path) -> list[Path]:
    """Return the files of a table: itself, or those in a folder."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    return sorted([*path.rglob("*.arrow"), *path.rglob("*.parquet")])


def find_columns(origin: str, names: Sequence[str], by_position: bool) -> TableColumns:
    """Find the column of each role.

    Raises:
        DataError: a role has no column, or the numbers of negatives and their queries differ.
    """
    texts = [name for name in names if name not in IDS]
    if by_position:
        num_negatives, rest = divmod(len(texts) - 3, 2)
        if rest or num_negatives < 0:
            raise DataError(
                f"{origin} has {len(texts)} columns of text, not 3 + 2 N: query, passage, N "
                "negatives, translated query, N negative queries"
            )
        return TableColumns(
            query=texts[0],
            positive=texts[1],
            translated_query=texts[num_negatives + 2],
            negatives=tuple(texts[2 : num_negatives + 2]),
            negative_queries=tuple(texts[num_negatives + 3 :]),
        )
    found = TableColumns(
        query=_named(origin, texts, QUERY),
        positive=_named(origin, texts, POSITIVE),
        translated_query=_named(origin, texts, TRANSLATED),
        negatives=_numbered(texts, NEGATIVE),
        negative_queries=_numbered(texts, NEGATIVE_QUERY),
    )
    if len(found.negative_queries) not in (0, len(found.negatives)):
        raise DataError(
            f"{origin} has {len(found.negatives)} columns of negative passages and "
            f"{len(found.negative_queries)} of negative queries: give as many, or no queries"
        )
    return found


def _named(origin: str, names: Sequence[str], known: Sequence[str]) -> str:
    for name in known:
        if name in names:
            return name
    raise DataError(
        f"{origin} has no column {known[0]!r} (or {', '.join(known[1:])}) among "
        f"{', '.join(names)}: rename it, or give --by-position for the reference's order"
    )


def _numbered(names: Sequence[str], pattern: re.Pattern[str]) -> tuple[str, ...]:
    found = {int(match[1]): name for name in names if (match := pattern.fullmatch(name))}
    return tuple(found[number] for number in sorted(found))


def _hash(text: object) -> str:
    return hashlib.sha256(str(text).encode("utf-8", "replace")).hexdigest()[:ID_CHARACTERS]


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    if path.suffix in (".parquet", ".arrow"):
        yield from _columnar_records(path, _parquet if path.suffix == ".parquet" else _arrow)
        return
    for origin, parse in read_json_lines(path, DataError, MAX_LINE_BYTES, open_file=open_source):
        record = parse()
        if not isinstance(record, dict):
            raise DataError(f"{origin} is not a JSON object")
        yield origin, record


def _columnar_records(
    path: Path, batches: Callable[[Path], Iterator[Any]]
) -> Iterator[tuple[str, Record]]:
    number = 0
    try:
        for batch in batches(path):
            if name := repeated_name(batch.schema):
                raise DataError(f"{path} has two columns `{name}`: rename one of them")
            for record in batch_records(batch):
                number += 1
                yield f"{path}:{number}", record
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): restore it from a copy"
        ) from None


def _parquet(path: Path) -> Iterator[Any]:
    with open_source(path) as source, pq.ParquetFile(source) as file:
        yield from file.iter_batches(batch_size=1024)


def _arrow(path: Path) -> Iterator[Any]:
    """Read Arrow's stream format, which `datasets` writes, or its file format."""
    with open_source(path) as source:
        try:
            stream = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(source)
            yield from (file.get_batch(number) for number in range(file.num_record_batches))
            return
        yield from stream
