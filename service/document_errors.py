"""Errors of requests that change documents, with their HTTP statuses.

They are apart from the room `changes`, which `service.problems` may not import: that room's engine
stands on what answers errors. `service.problems.TABLE` holds them with all others.
"""

from service.errors import NotFoundError, RequestError, RetryLaterError


class UnknownDocumentError(NotFoundError):
    """The live index has no document of the id, and no change of it waits."""

    title, reason = "Unknown document", "document"
    meaning = "The live index has no document of this id, and no change of it waits"


class UnknownChangeError(NotFoundError):
    """No change has the number, or its result is no longer kept."""

    title, reason = "Unknown change", "change"
    meaning = "No change has this number, or its result is no longer kept"


class NotWriterError(RequestError):
    """Another instance writes to the index, or this one cannot."""

    status, title, reason = 409, "Not the writer", "writer"
    meaning = "Another instance writes to this index (the answer names it), or this one cannot"


class ManyChangesError(RetryLaterError):
    """More documents wait than the service accepts."""

    title, reason = "Many changes", "changes"
    meaning = "More documents wait to be applied than CLEAR_MAX_WAITING_DOCUMENTS allows"


class StorageFullError(RequestError):
    """The disk of the index is full; no change was accepted."""

    status, title, reason = 507, "Insufficient storage", "storage"
    meaning = "The disk of the index is full or cannot be written; the change was not accepted"
