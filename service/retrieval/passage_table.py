"""The passages of an index: an Arrow file, memory-mapped, so that their text is not on the heap."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from service.retrieval.errors import GenerationError
from service.retrieval.passages import Passage

SCHEMA = pa.schema(
    [
        ("passage_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("metadata", pa.string()),  # JSON
    ]
)


class PassageTableWriter:
    """Writes passages to an Arrow file, a batch at a time; row i belongs to vector i."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._writer = pa.ipc.new_file(str(path), SCHEMA)

    def __enter__(self) -> Self:
        """Use as a context manager: leaving completes the file."""
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
        columns = [
            [passage.passage_id for passage in passages],
            [passage.title for passage in passages],
            [passage.text for passage in passages],
            [json.dumps(dict(passage.metadata), ensure_ascii=False) for passage in passages],
        ]
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))


class PassageTable:
    """Passages by row."""

    def __init__(self, path: Path) -> None:
        """Map the file; its hash must have been checked.

        Raises:
            GenerationError: it is not an Arrow file of passages.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowException, OSError) as error:
            raise GenerationError(f"{path} is not an Arrow file: {error}") from None
        if table.schema != SCHEMA:
            raise GenerationError(f"{path} has other columns than {', '.join(SCHEMA.names)}")
        self._columns = table.columns
        self._count: int = table.num_rows

    def __len__(self) -> int:
        """Count the passages."""
        return self._count

    def read(self, rows: Iterable[int]) -> list[Passage]:
        """Look up passages by row, in the order given."""
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

    def passage_ids(self, rows: Iterable[int]) -> list[str]:
        """Look up ids alone."""
        return [self._columns[0][row].as_py() for row in rows]
