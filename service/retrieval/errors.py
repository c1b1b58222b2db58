"""What can go wrong below HTTP.

    RetrievalError
    ├── PassageError              one line of a passages file, named as file:line
    ├── FilterError               a filter that the index cannot answer, named by its field
    ├── DeviceError               a device was asked for that is not there
    ├── MemoryShortError          something does not fit beside what is in memory
    └── ArtifactError             something saved is not what it should be
        ├── CheckpointError       an encoder checkpoint
        ├── GenerationError       an index generation
        └── EncoderMismatchError  the index was embedded by another encoder

A message says what, where and how to mend it, in one line; the text of a passage or a query is
never in it.
"""


class RetrievalError(Exception):
    """Something that a user of the library can mend."""


class PassageError(RetrievalError):
    """A passages file, or one line of it, cannot be used."""


class FilterError(RetrievalError):
    """A filter, or a facet, that this index cannot answer."""

    def __init__(self, field: str, reason: str) -> None:
        """Name the field of the request, such as `filter.year`, and what is wrong with it."""
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class DeviceError(RetrievalError):
    """The device or the build that a setting asks for is not there."""


class MemoryShortError(RetrievalError):
    """There is too little memory for something beside what it holds."""


class ArtifactError(RetrievalError):
    """A saved artifact is missing, incomplete or altered."""


class CheckpointError(ArtifactError):
    """An encoder checkpoint cannot be used."""


class GenerationError(ArtifactError):
    """An index generation cannot be used."""


class EncoderMismatchError(ArtifactError):
    """The index and the encoder do not belong together."""
