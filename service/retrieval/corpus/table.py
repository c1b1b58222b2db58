"""The passages of an index in a memory-mapped Arrow file; their text takes no heap memory.

Each declared field is a column of its kind. All metadata is in one more column, as JSON.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from service.retrieval.corpus.dates import parse_date
from service.retrieval.corpus.fields import NO_FIELDS, FieldKind, Fields
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import GenerationError

SCHEMA = pa.schema(
    [
        ("passage_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("metadata", pa.string()),  # JSON
    ]
)
# Keeps a field apart from another column of the same name.
FIELD_PREFIX = "field."


class PassageTableWriter:
    """Writes passages to an Arrow file in batches; row i belongs to vector i."""

    def __init__(self, path: Path, fields: Fields = NO_FIELDS) -> None:
        """Create the file; the metadata of the passages must fit the fields."""
        self._fields = fields
        self._writer = pa.ipc.new_file(str(path), schema_of(fields))

    def __enter__(self) -> Self:
        """Return the writer; the end of the context completes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the file."""
        self._writer.close()

    def write(self, passages: Sequence[Passage]) -> None:
        """Append one batch."""
        self.write_rows(to_rows(passages, self._fields))

    def write_rows(self, rows: pa.Table) -> None:
        """Append rows of another table, or of `to_rows`, as one batch.

        Parts of arrays keep traces of what they were taken from; a copy by `take` has the bytes of
        arrays that were made of the values.
        """
        copied = rows.take(pa.array(range(len(rows)), pa.int64()))
        for batch in copied.combine_chunks().to_batches():
            self._writer.write_batch(batch)


class PassageTable:
    """Passages by row."""

    def __init__(self, path: Path, fields: Fields = NO_FIELDS) -> None:
        """Map the file, whose hash must have been verified.

        Raises:
            GenerationError: the file is not an Arrow file of passages with these fields.
        """
        schema = schema_of(fields)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowException, OSError) as error:
            raise GenerationError(
                f"{path} is not an Arrow file ({error}): build the index again"
            ) from None
        if table.schema != schema:
            raise GenerationError(
                f"{path} does not have the columns {', '.join(schema.names)}: build the index again"
            )
        self.fields = fields
        self.rows: pa.Table = table
        self._columns = table.columns[: len(SCHEMA)]
        self._field_columns = dict(zip(fields, table.columns[len(SCHEMA) :], strict=True))
        self._count: int = table.num_rows

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._count

    def read(self, rows: Iterable[int]) -> list[Passage]:
        """Return the passages of these rows, in the order given."""
        passage_ids, titles, texts, metadata = self._columns
        return [
            Passage(
                passage_ids[row].as_py(),
                texts[row].as_py(),
                titles[row].as_py(),
                json.loads(metadata[row].as_py()),
            )
            for row in rows
        ]

    def find(self, passage_id: str) -> int | None:
        """Return the row of a passage; None if there is none."""
        row = self.place(passage_id)
        return row if row < len(self) and self.passage_ids([row]) == [passage_id] else None

    def place(self, passage_id: str) -> int:
        """Return the first row whose id is not smaller. Rows ascend by id, as UTF-8 bytes."""
        ids, wanted = self._columns[0], passage_id.encode()
        return bisect_left(range(len(self)), wanted, key=lambda each: ids[each].as_py().encode())

    def passage_ids(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of the passages of these rows."""
        return [self._columns[0][row].as_py() for row in rows]

    def values(self, field: str) -> pa.ChunkedArray:
        """Return the column of a declared field; null for passages that lack the field."""
        return self._field_columns[field]


def to_array(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """Return values of a field as an array of its column's type; dates become instants."""
    if pa.types.is_timestamp(kind):
        values = [None if value is None else parse_date(value) for value in values]
    return pa.array(values, kind)


def to_rows(passages: Sequence[Passage], fields: Fields = NO_FIELDS) -> pa.Table:
    """Return passages as rows of a table; their metadata must fit the fields."""
    schema = schema_of(fields)
    columns: list[list[Any]] = [
        [passage.passage_id for passage in passages],
        [passage.title for passage in passages],
        [passage.text for passage in passages],
        [json.dumps(dict(passage.metadata), ensure_ascii=False) for passage in passages],
        *([passage.metadata.get(name) for passage in passages] for name in fields),
    ]
    arrays = [to_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def schema_of(fields: Fields) -> pa.Schema:
    """Return the schema of a table of passages."""
    columns = [pa.field(FIELD_PREFIX + name, _arrow_type(kind)) for name, kind in fields.items()]
    return pa.schema([*SCHEMA, *columns])


def _arrow_type(kind: FieldKind) -> pa.DataType:
    match kind:
        case "string":
            return pa.string()
        case "number":
            return pa.float64()
        case "boolean":
            return pa.bool_()
        case "date":
            return pa.timestamp("us", "UTC")
        case "strings":
            return pa.list_(pa.string())
