"""Data sets by their Hub name, the commit pinned: `owner/name@<40 hexadecimal digits>`."""

import re
from pathlib import Path

from trainer.errors import DataError

NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
LOOSE_NAME = re.compile(r"[\w.-]+/[\w.-]+(@.*)?")
FILES = ["*.json", "*.jsonl", "*.parquet", "*.tsv", "*.txt", "*.arrow"]


def find_source(source: str) -> Path:
    """Find the folder or file of a data set, fetched from the Hub where it is named so.

    Raises:
        DataError: it is not there.
    """
    if Path(source).exists():
        return Path(source)
    if match := NAME.fullmatch(source):
        return _fetch(match["name"], match["revision"])
    if LOOSE_NAME.fullmatch(source):
        raise DataError(
            f"{source} is no folder, and a Hub name needs its revision pinned: "
            f"{source.partition('@')[0]}@<40 hexadecimal digits of the commit>"
        )
    raise DataError(f"{source} does not exist: name a folder, a file, or owner/name@commit")


def _fetch(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=FILES
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"the data set {name}@{revision} could not be fetched from the Hub ({reason}): "
            "check the name, the revision and the network, or name a folder"
        ) from None
    return Path(folder)
