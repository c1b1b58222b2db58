"""The passages of an index in a memory-mapped Arrow file; their text takes no heap memory.

Each declared field is a column of its kind. All metadata is in one more column, as JSON.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.retrieval.corpus.chunks.chunking import SEPARATOR
from service.retrieval.corpus.dates import parse_date
from service.retrieval.corpus.fields import NO_FIELDS, FieldKind, Fields
from service.retrieval.corpus.reader import Chunk, Passage
from service.retrieval.errors import GenerationError
from service.retrieval.storage.arrow_files import ArrowWriter, Strings, map_rows

SCHEMA = pa.schema(
    [
        ("passage_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("metadata", pa.string()),  # JSON
    ]
)
# Of the passages that are chunks, null for the others; a table without chunks lacks the columns.
CHUNK_SCHEMA = pa.schema(
    [("chunk.document_id", pa.string()), ("chunk.start", pa.int64()), ("chunk.end", pa.int64())]
)
NO_METADATA = "{}"  # of most corpora's passages
# Keeps a field apart from another column of the same name.
FIELD_PREFIX = "field."


class PassageTableWriter(ArrowWriter):
    """Writes passages to an Arrow file in batches; row i belongs to vector i."""

    def __init__(self, path: Path, fields: Fields = NO_FIELDS, has_chunks: bool = False) -> None:
        """Create the file; the metadata of the passages must fit the fields."""
        super().__init__(path, schema_of(fields, has_chunks))
        self._fields = fields

    def write(self, passages: Sequence[Passage]) -> None:
        """Append one batch."""
        self.write_rows(to_rows(passages, self._fields))


class PassageTable:
    """Passages by row."""

    def __init__(self, path: Path, fields: Fields = NO_FIELDS) -> None:
        """Map the file, whose hash must have been verified.

        Raises:
            GenerationError: the file is not an Arrow file of passages with these fields.
        """
        table = map_rows(path)
        self.has_chunks = CHUNK_SCHEMA.names[0] in table.schema.names
        schema = schema_of(fields, self.has_chunks)
        if table.schema != schema:
            raise GenerationError(
                f"{path} does not have the columns {', '.join(schema.names)}: build the index again"
            )
        self._path = path
        self.fields = fields
        self.rows: pa.Table = table
        self._field_columns = dict(zip(fields, table.columns[len(SCHEMA) :], strict=False))
        self._chunk_columns = table.columns[len(SCHEMA) + len(fields) :]
        self._count: int = table.num_rows

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._count

    def check(self) -> None:
        """Check that all text is UTF-8 and all lists lie within their values.

        Raises:
            GenerationError: some are not.
        """
        try:
            self.rows.validate(full=True)
        except pa.ArrowInvalid as error:
            raise GenerationError(
                f"{self._path} does not hold passages ({error}): build the index again"
            ) from None

    @cached_property
    def _strings(self) -> list[Strings]:
        return [Strings(column) for column in self.rows.columns[: len(SCHEMA)]]

    def read(self, rows: Iterable[int]) -> list[Passage]:
        """Return the passages of these rows, in the order given."""
        passage_ids, titles, texts, metadata = self._strings
        return [
            Passage(
                passage_ids[row],
                texts[row],
                titles[row],
                {} if (own := metadata[row]) == NO_METADATA else json.loads(own),
                self._chunk(row),
            )
            for row in rows
        ]

    def _chunk(self, row: int) -> Chunk | None:
        if not self.has_chunks:
            return None
        document_id, start, end = (column[row].as_py() for column in self._chunk_columns)
        return None if document_id is None else Chunk(document_id, start, end)

    @cached_property
    def is_first(self) -> NDArray[np.bool_] | None:
        """Return which rows begin a document, [N]; None if all do."""
        if not self.has_chunks:
            return None
        found: NDArray[np.bool_] = pc.fill_null(
            pc.equal(self._chunk_columns[1], 0), True
        ).to_numpy()
        return found

    @cached_property
    def num_documents(self) -> int:
        """Return the number of documents: of passages, but for further chunks."""
        return len(self) if self.is_first is None else int(np.count_nonzero(self.is_first))

    def rows_of(self, document_id: str) -> list[int]:
        """Return the rows of a document's passages, in their order in the document."""
        row = self.find(document_id)
        rows = [] if row is None or self._chunk(row) else [row]
        if not self.has_chunks:
            return rows
        prefix = document_id + SEPARATOR
        chunks = {}
        for row in range(self.place(prefix), len(self)):
            if not self._strings[0][row].startswith(prefix):
                break
            chunk = self._chunk(row)
            if chunk and chunk.document_id == document_id:
                chunks[chunk.start, chunk.end] = row
        return rows + [row for _, row in sorted(chunks.items())]

    def document(self, document_id: str) -> Passage | None:
        """Return a document as it was indexed, joined from its chunks; None if there is none."""
        passages = self.read(self.rows_of(document_id))
        if not passages:
            return None
        text = ""
        for passage in passages:
            text += passage.text[len(text) - passage.chunk.start if passage.chunk else 0 :]
        return Passage(document_id, text, passages[0].title, passages[0].metadata)

    def document_text(self, document_id: str) -> str:
        """Return title and text of a document; empty if there is none of this id."""
        document = self.document(document_id)
        return document.encoder_text if document else ""

    def find(self, passage_id: str) -> int | None:
        """Return the row of a passage; None if there is none."""
        row = self.place(passage_id)
        return row if row < len(self) and self.passage_ids([row]) == [passage_id] else None

    def place(self, passage_id: str) -> int:
        """Return the first row whose id is not smaller. Rows ascend by id, as UTF-8 bytes."""
        ids, wanted = self._strings[0], passage_id.encode()
        return bisect_left(range(len(self)), wanted, key=lambda each: ids[each].encode())

    def passage_ids(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of the passages of these rows."""
        return [self._strings[0][row] for row in rows]

    def document_ids(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of the documents that the passages of these rows are, or are parts of."""
        return [
            chunk.document_id if (chunk := self._chunk(row)) else self._strings[0][row]
            for row in rows
        ]

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
    schema = schema_of(fields, has_chunks=True)
    chunks = [passage.chunk for passage in passages]
    columns: list[list[Any]] = [
        [passage.passage_id for passage in passages],
        [passage.title for passage in passages],
        [passage.text for passage in passages],
        [json.dumps(dict(passage.metadata), ensure_ascii=False) for passage in passages],
        *([passage.metadata.get(name) for passage in passages] for name in fields),
        [chunk and chunk.document_id for chunk in chunks],
        [chunk and chunk.start for chunk in chunks],
        [chunk and chunk.end for chunk in chunks],
    ]
    arrays = [to_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def with_chunk_columns(rows: pa.Table) -> pa.Table:
    """Return rows with the columns of chunks, null where the table has none."""
    for column in CHUNK_SCHEMA:
        if column.name not in rows.schema.names:
            rows = rows.append_column(column, pa.nulls(len(rows), column.type))
    return rows


def any_chunk(rows: pa.Table, is_kept: NDArray[np.bool_]) -> bool:
    """Return whether any of the rows that are kept is a chunk."""
    is_chunk = rows[CHUNK_SCHEMA.names[0]].is_valid().to_numpy()
    return bool((is_chunk & is_kept).any())


def schema_of(fields: Fields, has_chunks: bool = False) -> pa.Schema:
    """Return the schema of a table of passages."""
    columns = [pa.field(FIELD_PREFIX + name, _arrow_type(kind)) for name, kind in fields.items()]
    return pa.schema([*SCHEMA, *columns, *(CHUNK_SCHEMA if has_chunks else [])])


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
