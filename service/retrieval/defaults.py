"""Default values; imports nothing heavy, so that the command line starts fast."""

import os
from pathlib import Path

from service.retrieval.errors import RetrievalError

BUNDLED = "bundled"
BUNDLED_BASE = "bundled-base"  # without its query-side adapter


def default_cache() -> Path:
    """Return the cache folder, `~/.cache/clear-search` unless XDG_CACHE_HOME names another.

    Raises:
        RetrievalError: the user has no home folder.
    """
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "clear-search"
    try:
        return Path.home() / ".cache" / "clear-search"
    except RuntimeError:  # no HOME, and no entry for the user in /etc/passwd
        raise RetrievalError(
            "there is no home folder for the cache: set CLEAR_CACHE (or HOME) to a folder that "
            "can be written"
        ) from None
