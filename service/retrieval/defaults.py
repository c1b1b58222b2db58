"""Default values and limits; imports nothing heavy, so that the command line starts fast."""

import os
from pathlib import Path

from service.retrieval.errors import RetrievalError

BUNDLED = "bundled"
ANSWER_THRESHOLD = 0.5  # the relevance of the best hit from which on a query counts as answered
PERHAPS_FROM = 0.2  # from which on it perhaps is; the page has the same (web/results/hits.js)
BUNDLED_BASE = "bundled-base"  # without its query-side adapter
MAX_SEED = 2**32 - 1  # that of numpy's generator


def default_cache() -> Path:
    """Return the cache folder, `~/.cache/clear-search` unless XDG_CACHE_HOME names another.

    Raises:
        RetrievalError: the user has no home folder, or a relative one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if cache.is_absolute():  # its specification says to ignore a relative path
        return cache / "clear-search"
    try:
        home_folder = Path.home()
    except RuntimeError:  # no HOME, and no entry for the user in /etc/passwd
        raise RetrievalError(
            "there is no home folder for the cache: set CLEAR_CACHE (or HOME) to a folder that "
            "can be written"
        ) from None
    if not home_folder.is_absolute():  # the cache would be in the current folder
        raise RetrievalError(
            f"HOME is a relative path ({home_folder}): set CLEAR_CACHE (or HOME) to an absolute "
            "path of a folder that can be written"
        )
    return home_folder / ".cache" / "clear-search"
