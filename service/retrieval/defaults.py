"""Default values; imports nothing heavy, so that the command line starts fast."""

import os
from pathlib import Path

BUNDLED = "bundled"
BUNDLED_BASE = "bundled-base"  # without its query-side adapter


def default_cache() -> Path:
    """Return the cache folder, `~/.cache/clear-search` unless XDG_CACHE_HOME names another."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "clear-search"
