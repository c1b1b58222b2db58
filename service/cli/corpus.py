"""The corpus that a command reads: files, columns, and what happens to invalid passages."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from service.cli import console

if TYPE_CHECKING:
    from service.retrieval.corpus.changes import Change
    from service.retrieval.corpus.columns import Columns
    from service.retrieval.corpus.fields import Fields
    from service.retrieval.corpus.reader import Passage
    from service.retrieval.errors import PassageError

T = TypeVar("T")
MAX_PRINTED = 20


class Corpus:
    """Reads passages once; prints the columns that it found, and the passages that it skipped."""

    def __init__(
        self,
        paths: Sequence[Path],
        columns: tuple[str, str, str],
        fields: "Fields",
        skip_invalid: bool,
        word: str = "skipped",
    ) -> None:
        """Keep the options; nothing is read yet.

        Args:
            paths: as `find_files` takes them.
            columns: the keys of id, text and title; empty for one that is to be found.
            fields: metadata fields, by whose kinds the cells of CSV are read.
            skip_invalid: skip and count invalid passages; by default the first one is an error.
            word: what is printed before the error of a passage that is skipped.
        """
        self._paths = paths
        self._columns = columns
        self._fields = fields
        self._skip_invalid = skip_invalid
        self._word = word
        self._told: set[Columns] = set()
        self.num_skipped = 0
        self.first_errors: list[str] = []

    def read(self) -> "Iterator[tuple[str, Passage]]":
        """Yield the passages; the first ones are read now, so that a bad file is told early.

        Raises:
            PassageError: as in `read_corpus`, or there are no passages.
        """
        from service.retrieval.corpus.reader import read_corpus

        return self._read(read_corpus)

    def read_changes(self) -> "Iterator[tuple[str, Change]]":
        """Yield the changes that the files hold, as `read` yields passages."""
        from service.retrieval.corpus.changes import read_changes

        return self._read(read_changes)

    def _read(self, reader: "Callable[..., Iterator[tuple[str, T]]]") -> "Iterator[tuple[str, T]]":
        from service.retrieval.corpus.columns import Columns
        from service.retrieval.corpus.reader import read_ahead

        records = reader(
            self._paths,
            self.on_invalid,
            columns=Columns(*self._columns),
            fields=self._fields,
            on_columns=self._tell,
        )
        return read_ahead(records, ", ".join(map(str, self._paths)))

    def on_invalid(self, error: "PassageError") -> None:
        """Skip, count and print an invalid passage, or raise its error."""
        from service.retrieval.errors import PassageError

        if not self._skip_invalid:
            raise PassageError(f"{error}, or give --skip-invalid")
        self.num_skipped += 1
        if self.num_skipped <= MAX_PRINTED:
            self.first_errors.append(str(error))
            _print(f"{self._word}: {error}")

    def _tell(self, file: Path, columns: "Columns") -> None:
        """Print columns that have other names than ours, once."""
        if not columns.is_usual and columns not in self._told:
            self._told.add(columns)
            _print(f"{file}: reads {columns.describe()}")


def _print(line: str) -> None:
    console.stderr_console().print(line, soft_wrap=True, markup=False)
