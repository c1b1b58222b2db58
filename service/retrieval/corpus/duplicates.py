"""Exact duplicates: documents whose title and text are equal but for case, spaces and encoding.

Encoding means forms of Unicode that are canonically equivalent.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
NO_KEY = b"\0" * KEY_BYTES  # of a row that does not begin a document
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document that repeats another one's text, and the first one by id; each with its origin."""

    document_id: str
    origin: str
    first_id: str
    first_origin: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The number of documents that repeat another one's text, and the first of them by id."""

    count: int = 0
    named: Sequence[Duplicate] = ()


def text_key(text: str) -> bytes:
    r"""Hash what duplicates have in common to 16 bytes.

    >>> text_key("Cafe\u0301  au\nlait ") == text_key("caf\u00e9 AU lait")
    True
    """
    return hashlib.sha256(normalized(text).encode()).digest()[:KEY_BYTES]


def normalized(text: str) -> str:
    """Return a text in NFC and lower case, its words separated by single spaces."""
    return " ".join(normalize("NFC", text).casefold().split())


def repeated_rows(keys: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows, ascending, whose key an earlier row has, and the first row of each.

    Args:
        keys: of the rows, `NO_KEY` for those that do not count, [N].

    >>> [rows.tolist() for rows in repeated_rows(np.frombuffer(b"aabbaabb", "V2"))]
    [[2, 3], [0, 1]]
    """
    order = np.argsort(keys.view(f"S{keys.itemsize}"), kind="stable")
    found = keys[order]
    is_new = np.ones(len(keys), np.bool_)
    is_new[1:] = found[1:] != found[:-1]
    firsts = np.empty(len(keys), np.int64)
    firsts[order] = order[np.flatnonzero(is_new)[np.cumsum(is_new) - 1]]
    is_repeated = firsts != np.arange(len(keys))
    is_repeated &= keys != np.void(bytes(keys.itemsize))
    rows = np.flatnonzero(is_repeated)
    return rows, firsts[rows]
