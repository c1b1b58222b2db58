"""Log formats: text for people, JSON for programs; each record has the id of its request.

A record holds nothing that a user sent. The message of an exception may quote a text, so only its
class and its traceback are written. Messages that leave the machine are written without folders.
"""

import json
import logging
import os
import re
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
PLAIN_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# An absolute path but for its last part; no part of a URL.
FOLDERS = re.compile(r"""(?<![\w./:])/(?:[^/\s'"`:,;()]+/)+""")
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def request_id_of(header: bytes | None) -> str:
    """Return the client's request id if it is well-formed, else a new one.

    >>> request_id_of(b"order-17.retry-2")
    'order-17.retry-2'
    >>> len(request_id_of(b"two words"))
    32
    """
    if header is not None and PLAIN_REQUEST_ID.fullmatch(header):
        return header.decode()
    return os.urandom(16).hex()


def without_folders(message: str, root: Path | None = None) -> str:
    """Shorten each absolute path in a message to its part below `root`, else to its last part.

    >>> without_folders("/srv/index/generations/3f/x.arrow is missing", Path("/srv/index"))
    'generations/3f/x.arrow is missing'
    >>> without_folders("there is no index in /srv/index: build one", Path("/srv/index"))
    'there is no index in index: build one'
    >>> without_folders("no access to '/etc/clear/keys.toml', see https://host/a/b")
    "no access to 'keys.toml', see https://host/a/b"
    """
    for folder in (root, root.resolve()) if root and root.name else ():
        message = message.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return FOLDERS.sub("", message)


class TextFormatter(logging.Formatter):
    """Formats a record as a line; an exception as its traceback and class."""

    def formatException(self, ei: object) -> str:
        """Format an exception without its message."""
        return describe_exception(ei)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; its `fields` become JSON fields."""
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
    """Return the traceback and class of an exception, without its message."""
    if not isinstance(info, tuple) or info[0] is None:
        return ""
    kind, _, trace = info
    return "".join(traceback.format_tb(trace)) + f"{kind.__module__}.{kind.__qualname__}"
