"""Sentences of a text, and how they are joined into chunks of about equal size."""

import re
from collections.abc import Sequence
from itertools import pairwise

# Where a sentence ends: after a heading of Markdown's, an end mark, or before an empty line.
SENTENCE_END = re.compile(
    r"""^[ \t]*#{1,6}\s[^\n]*(?:\n\s*|\Z)|[.!?…]["'”’»)\]]*\s+|[。！？।॥؟۔]["'”’»」』）]*\s*"""
    r"""|\n\s*\n\s*|\n(?=[ \t]*#{1,6}\s)""",
    re.MULTILINE,
)
# A line of Markdown's, or a short one without an end mark before an empty line.
HEADING = re.compile(r"\s*(#{1,6}\s[^\n]*|[^\n]{1,80}[^\s.!?…。！？।॥؟۔:;,][ \t]*\n\s*)\n\s*")
MARKDOWN = re.compile(r"\s*#{1,6}\s")
Span = tuple[int, int]


def sentences(text: str) -> list[Span]:
    """Return where the sentences of a text begin and end; they cover it.

    >>> sentences("One. Two?\\n\\n# Three")
    [(0, 5), (5, 11), (11, 18)]
    """
    ends = [found.end() for found in SENTENCE_END.finditer(text) if found.end() < len(text)]
    cuts = [0, *ends, len(text)]
    return [(start, end) for start, end in pairwise(cuts) if start < end]


def join_pieces(
    text: str, pieces: Sequence[Span], sizes: Sequence[int], budget: int, overlap: int
) -> list[Span]:
    """Join pieces of a text into chunks of about equal size.

    A chunk that is half full ends before an empty line or a heading, and none ends with a heading.

    Args:
        text: the document's.
        pieces: spans that cover the text.
        sizes: the tokens of each piece.
        budget: the most tokens of a chunk.
        overlap: the most tokens that a chunk repeats.
    """
    budget -= overlap
    target = sum(sizes) / max(1, -(-sum(sizes) // budget))
    starts, filled = [0], 0
    for number, size in enumerate(sizes):
        is_over = filled + size > budget or filled + size / 2 > target
        is_break = filled >= target / 2 and _begins_part(text, pieces, number)
        if size and filled and (is_over or is_break):
            is_after_heading = _is_heading(text, pieces[number - 1])
            if not is_after_heading or starts[-1] < number - 1:
                starts.append(number - is_after_heading)
                filled = sum(sizes[starts[-1] : number])
            elif filled + size > budget:
                starts.append(number)
                filled = 0
        filled += size
    firsts = [0, *(_overlapping(sizes, *pair, overlap) for pair in pairwise(starts))]
    lasts = [*(start - 1 for start in starts[1:]), len(pieces) - 1]
    return [(pieces[first][0], pieces[last][1]) for first, last in zip(firsts, lasts, strict=True)]


def _overlapping(sizes: Sequence[int], former: int, start: int, overlap: int) -> int:
    """Return the first piece that a chunk repeats, which begins with piece `start`.

    It repeats `overlap` tokens at most, and not all of the chunk before, which begins at `former`.
    """
    first = start
    while first > former + 1 and sum(sizes[first - 1 : start]) <= overlap:
        first -= 1
    return first


def _begins_part(text: str, pieces: Sequence[Span], number: int) -> bool:
    """Return whether an empty line or a heading separates a piece from the one before."""
    before = text[slice(*pieces[number - 1])] if number else ""
    is_after_empty_line = before[len(before.rstrip()) :].count("\n") > 1
    return is_after_empty_line or bool(MARKDOWN.match(text[slice(*pieces[number])]))


def _is_heading(text: str, piece: Span) -> bool:
    return HEADING.fullmatch(text, *piece) is not None
