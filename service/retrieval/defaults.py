"""What holds where nothing is set; imports nothing heavy, so that a command line starts at once."""

import os
from pathlib import Path

BUNDLED = "bundled"
BUNDLED_BASE = "bundled-base"  # without its query-side adapter


def default_cache() -> Path:
    """Name the folder for what is made once and kept: `~/.cache/clear-search`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "clear-search"
