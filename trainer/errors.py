"""What can go wrong in the trainer, beside what `service.retrieval.errors` draws.

    TrainerError
    ├── ConfigError          a configuration is not what it should be
    ├── DataError            a data file is missing, or not what it should be
    ├── OutputError          a result cannot be written
    └── MissingPackageError  an optional package is not installed

A message says what, where and how to mend it, in one line; the text of a passage or a query is
never in it.
"""


class TrainerError(Exception):
    """Something that a user of the trainer can mend."""


class DataError(TrainerError):
    """A data file cannot be used."""


class ConfigError(TrainerError):
    """A configuration cannot be used."""


class OutputError(TrainerError):
    """A result cannot be written."""


class MissingPackageError(TrainerError):
    """An optional package is not installed."""
