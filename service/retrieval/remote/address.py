"""The place of an index: a folder, or a URL of an object store; nothing is opened here."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

# What a URL begins with, and the package that reads and writes there.
LIBRARIES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "file": "fsspec",
}
SPECIAL = re.compile(r"[*?\[\]#]|::|\s")  # patterns, queries, chains of file systems


def scheme_of(url: str) -> str:
    """Return what a URL begins with, such as `s3`."""
    return url.partition("://")[0]


def parse_place(place: object) -> object:
    """Return a folder's name as a path, and a URL as text without a slash at its end.

    Another object than text is returned as it is.

    Raises:
        ValueError: the URL is of no known kind, names no bucket, or holds credentials.
    """
    if not isinstance(place, str):
        return place
    return parse_url(place) if "://" in place else Path(place)


def parse_url(url: str) -> str:
    """Check a URL, and return it without a slash at its end; raises as `parse_place`.

    >>> parse_url("s3://bucket/prefix/")
    's3://bucket/prefix'
    """
    scheme, _, rest = url.partition("://")
    if scheme not in LIBRARIES:
        known = ", ".join(f"{each}://" for each in LIBRARIES)
        raise ValueError(f"a URL of an index begins with one of {known}; or name a folder")
    if scheme != "hf" and "@" in urlsplit(url).netloc:
        raise ValueError(
            "a URL of an index holds no credentials: set the environment's, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
        )
    if SPECIAL.search(rest) or ".." in rest.split("/") or not rest.isprintable():
        raise ValueError("a URL of an index is a bucket and a prefix, as in s3://bucket/prefix")
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError(f"{url} names a host: write a folder as in file:///data/index")
    if not rest.strip("/"):
        raise ValueError(f"{url} names no bucket: write it as in s3://bucket/prefix")
    return url.rstrip("/")


def copy_folder(url: str, parent: Path) -> Path:
    """Return the folder of the local copy of an index: a different one for each URL."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", url)[:60].strip("-")
    return parent / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
