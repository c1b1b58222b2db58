"""Errors of the retrieval library.

    RetrievalError
    ├── PassageError              one line of a passages file, named as file:line
    ├── FilterError               a filter that the index cannot answer, named by its field
    ├── DeviceError               a device that was asked for is not available
    ├── MemoryShortError          there is not enough memory for an index or an encoder
    ├── EmbeddingError            the encoder gives no unit vector for some texts
    ├── StoreError                an object store cannot be reached, or refuses
    │   └── MissingObjectError    it has no object of the name
    └── ArtifactError             saved files are missing, incomplete or altered
        ├── CheckpointError       an encoder checkpoint
        │   └── WeightsError      no runtime can embed with its weights
        ├── GenerationError       an index generation
        └── EncoderMismatchError  the index was embedded by another encoder

A message says in one line what is wrong, where, and how to fix it. It never contains the text of
a passage or a query. A value that it takes from a file is written by `quoted`.
"""

import shlex
from collections.abc import Sequence
from typing import ClassVar

MAX_QUOTED = 80
# How to fix an embedding that is not a unit vector.
FIX = (
    "set CLEAR_PRECISION=fp32; if it is fp32 already, restore the checkpoint from a copy or use "
    "another encoder"
)


def quoted(value: object) -> str:
    """Return a value from a file for an error message: one printable line of at most 80 letters."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def python_command(code: str) -> str:
    """Return the shell command that runs a line of Python, whatever names the line holds.

    >>> python_command("print('a b')")
    'python -c "print(\\'a b\\')"'
    """
    is_plain = not any(letter in code for letter in '"$`\\!')
    return f'python -c "{code}"' if is_plain else f"python -c {shlex.quote(code)}"


class RetrievalError(Exception):
    """An error that a user of the library can fix."""


class PassageError(RetrievalError):
    """A passages file, or a line of it, cannot be used."""

    def __init__(self, message: str, field: str = "") -> None:
        """Keep the field of the passage that is wrong, if it is one."""
        super().__init__(message)
        self.field = field


class FilterError(RetrievalError):
    """This index cannot answer a filter or a facet."""

    def __init__(self, field: str, reason: str) -> None:
        """Keep the field of the request, such as `filter.year`, and what is wrong with it."""
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class DeviceError(RetrievalError):
    """The device or the build that a setting asks for is not available."""


class MemoryShortError(RetrievalError):
    """There is not enough free memory."""


class EmbeddingError(RetrievalError):
    """The encoder gives no finite vector of length 1 for some texts."""

    def __init__(self, encoder: str, positions: Sequence[int]) -> None:
        """Keep the positions of the texts, counted from 0."""
        super().__init__(
            f"the encoder {encoder} gives NaN, infinity or zero for the text at position "
            f"{positions[0]}{f' and {len(positions) - 1} more' if positions[1:] else ''}: {FIX}"
        )
        self.positions = positions


class StoreError(RetrievalError):
    """An object store cannot be reached, or refuses."""


class MissingObjectError(StoreError):
    """An object store has no object of the name."""


class ArtifactError(RetrievalError):
    """A saved artifact is missing, incomplete or altered."""

    how_to_restore: ClassVar[str] = "restore it from a copy or build again"


class CheckpointError(ArtifactError):
    """An encoder checkpoint cannot be used."""

    how_to_restore: ClassVar[str] = "restore it from a copy"


class WeightsError(CheckpointError):
    """An encoder gives no valid embedding, whichever runtime computes it."""


class GenerationError(ArtifactError):
    """An index generation cannot be used."""


class EncoderMismatchError(ArtifactError):
    """The index and the encoder do not belong together."""
