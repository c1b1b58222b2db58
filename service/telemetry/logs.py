"""Log records: text for people, JSON for programs; each carries the id of its request.

Nothing that a user sent is in a record. The message of an exception may quote it, so only the
exception's class and the lines that it passed through are written.
"""

import json
import logging
import re
import traceback
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
PLAIN_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def request_id_of(header: bytes | None) -> str:
    """Take a client's own id over where it is one, else make one.

    >>> request_id_of(b"order-17.retry-2")
    'order-17.retry-2'
    >>> len(request_id_of(b"two words"))
    32
    """
    if header is not None and PLAIN_REQUEST_ID.fullmatch(header):
        return header.decode()
    return uuid.uuid4().hex


class TextFormatter(logging.Formatter):
    """A record as a line; an exception by its class and its lines of code."""

    def formatException(self, ei: object) -> str:
        """Write an exception without its message."""
        return describe_exception(ei)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; its `fields` become fields."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = describe_exception(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def describe_exception(info: object) -> str:
    """Write the code that an exception passed through, and its class; not its message."""
    if not isinstance(info, tuple) or info[0] is None:
        return ""
    kind, _, trace = info
    return "".join(traceback.format_tb(trace)) + f"{kind.__module__}.{kind.__qualname__}"
