"""Errors of the trainer, besides those of `service.retrieval.errors`.

    TrainerError
    ├── ConfigError          a configuration is not valid
    ├── DataError            a data file is missing or not valid
    ├── OutputError          a result cannot be written
    └── MissingPackageError  an optional package is not installed

A message says in one line what is wrong, where, and how to fix it. It never holds the text of a
passage or a query.
"""


class TrainerError(Exception):
    """An error that a user of the trainer can fix."""


class DataError(TrainerError):
    """A data file cannot be used.

    The message names the file and the line (`file:line`), or the option that does not fit the data.
    """


class ConfigError(TrainerError):
    """A configuration cannot be used.

    The message names the file and the field (`file: section.field`), or the run directory that
    holds a run of another configuration.
    """


class OutputError(TrainerError):
    """A result cannot be written; the message names the file or folder."""


class MissingPackageError(TrainerError):
    """An optional package is not installed; the message holds the command that installs it."""
