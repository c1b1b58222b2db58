"""Texts as an encoder reads them: canonical, made of letters alone, and not blank.

Texts that a reader cannot tell apart have one vector. The tokenizer's file stays as it is: a text
is prepared before the tokenizer reads it.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol
from unicodedata import category, normalize

# All but spaces, controls, format characters that are not drawn (General_Category Z, Cc, Cf without
# Prepended_Concatenation_Mark), Default_Ignorable_Code_Point, and the empty Braille pattern.
VISIBLE = re.compile(
    "[^\\0-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Not marks, but of the same cluster: joiners, half-width voiced marks, AM of Thai and Lao.
EXTENDING_LETTERS = "\u200c\u200d\uff9e\uff9f\u0e33\u0eb3"
# Stands beside a character that is normalized alone, because normalizers strip spaces at the ends.
EDGE = "|"


def is_blank(text: str) -> bool:
    r"""Return whether a text has no visible character.

    >>> is_blank(""), is_blank(" \u200b\u00ad\x07"), is_blank("\u00ad.")
    (True, True, False)
    """
    return VISIBLE.search(text) is None


class Normalizes(Protocol):
    """A tokenizer, by its normalizer and its added tokens."""

    @property
    def normalizer(self) -> Any:
        """Return what normalizes a text first, or None."""

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Return the added tokens by id."""


class TextPreparation:
    """Prepares texts for one tokenizer.

    1. Canonically equivalent texts become one text (UAX #15), before the tokenizer's normalizer
       and after it, which may take a composed character apart or compose only some.
    2. A special token's name in a text, such as `</s>`, is letters: a space after its first letter
       keeps tokenizers from reading it as the token.

    A text that the tokenizer already reads so is only brought to NFC.
    """

    def __init__(self, tokenizer: Normalizes) -> None:
        """Take normalizer and special tokens of a tokenizer."""
        self._normalizer = tokenizer.normalizer
        contents = {
            token.content
            for token in tokenizer.get_added_tokens_decoder().values()
            if token.special
        }
        names = contents | set(map(self._normalized, contents))
        longest_first = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._alone = lru_cache(maxsize=4096)(self._normalized_alone)
        self._marked = _marked_characters()

    def __call__(self, text: str) -> str:
        """Return the text that the tokenizer gets, after the role's prompt."""
        composed = normalize("NFC", text)
        if composed.isascii() and not self._special.search(composed):
            return composed
        separate = normalize("NFC", self._marked.sub(lambda found: self._alone(found[1]), composed))
        normalized = self._normalized(separate)
        letters = normalize("NFC", normalized)
        letters = self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", letters)
        read = normalized if separate == composed else self._normalized(composed)
        return composed if letters == read else letters

    def _normalized(self, text: str) -> str:
        return str(self._normalizer.normalize_str(text)) if self._normalizer else text

    def _normalized_alone(self, character: str) -> str:
        """Normalize a character without its marks.

        The library's `Precompiled` drops the marks of a short cluster whose first character it
        replaces: a fraction or a superscript with a stroke lost it.
        """
        found = self._normalized(EDGE + character + EDGE)
        is_whole = found.startswith(EDGE) and found.endswith(EDGE)
        return found[1:-1] if is_whole else character


def _extending_ranges() -> Iterator[str]:
    """Yield ranges of the characters that may belong to the cluster of the one before."""
    points = [
        point
        for point in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
        if category(chr(point)).startswith("M") or chr(point) in EXTENDING_LETTERS
    ]
    start = points[0]
    for point, following in zip(points, [*points[1:], -1], strict=True):
        if following != point + 1:
            yield f"{chr(start)}-{chr(point)}"
            start = following


@lru_cache(maxsize=1)
def _marked_characters() -> re.Pattern[str]:
    """Compile the pattern of a character before one that belongs to its cluster."""
    return re.compile(f"(.)(?=[{''.join(_extending_ranges())}])", re.DOTALL)
