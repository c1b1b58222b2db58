"""Chunks: the parts of a document that is longer than its encoder reads, each a passage.

A document that fits is one passage with its own id; only a longer one is split, between sentences.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from service.retrieval.corpus.reader import Chunk, Passage
from service.retrieval.errors import RetrievalError

# Not chosen by measurement yet: `python -m tests.bench.chunks` compares sizes on XQuAD's articles.
DEFAULT_TOKENS = 160
MIN_TOKENS = 16
# Joins a document's id and the number of a chunk; the character after it in the order of ids.
SEPARATOR, AFTER_SEPARATOR = "#", "$"
# Where a sentence ends: after a heading of Markdown's, an end mark, or before an empty line.
SENTENCE_END = re.compile(
    r"""^[ \t]*#{1,6}\s[^\n]*(?:\n\s*|\Z)|[.!?…]["'”’»)\]]*\s+|[。！？।॥؟۔]["'”’»」』）]*\s*"""
    r"""|\n\s*\n\s*|\n(?=[ \t]*#{1,6}\s)""",
    re.MULTILINE,
)
# A line of Markdown's, or a short one without an end mark before an empty line.
HEADING = re.compile(r"\s*(#{1,6}\s[^\n]*|[^\n]{1,80}[^\s.!?…。！？।॥؟۔:;,][ \t]*\n\s*)\n\s*")
MARKDOWN = re.compile(r"\s*#{1,6}\s")
CountTokens = Callable[[Sequence[str]], list[int]]
Span = tuple[int, int]


@dataclass(frozen=True)
class Chunking:
    """How long documents are split: those over `longest` tokens, in chunks of up to `tokens`.

    `overlap` tokens at most of a chunk repeat the end of the one before. With 0 `tokens` nothing is
    split: the encoder cuts what is over its limit.
    """

    tokens: int
    overlap: int
    longest: int

    @classmethod
    def none(cls, limit: int) -> "Chunking":
        """Return that no document is split: an encoder that reads `limit` tokens cuts it."""
        return cls(0, 0, limit)

    @classmethod
    def of(cls, limit: int, tokens: int | None = None, overlap: int | None = None) -> "Chunking":
        """Return how documents are split for an encoder.

        Args:
            limit: tokens that the encoder reads.
            tokens: of a chunk; documents that are longer are split. By default only those over the
                limit are split; 0 splits none.
            overlap: by default none.

        Raises:
            RetrievalError: the numbers contradict each other.
        """
        if tokens == 0:
            return cls.none(limit)
        size = min(DEFAULT_TOKENS, limit) if tokens is None else tokens
        if not min(MIN_TOKENS, limit) <= size <= limit:
            raise RetrievalError(
                f"--chunk-tokens {size} is not between {MIN_TOKENS} and {limit}, which the encoder "
                "reads: give another number"
            )
        if overlap and overlap > size // 2:
            raise RetrievalError(
                f"--chunk-overlap {overlap} is over half of a chunk of {size} tokens: give at most "
                f"{size // 2}"
            )
        return cls(size, overlap or 0, limit if tokens is None else tokens)


class Chunker:
    """Splits documents into passages."""

    def __init__(self, chunking: Chunking, count_tokens: CountTokens) -> None:
        """Split as `chunking` says.

        Args:
            chunking: the sizes.
            count_tokens: returns the lengths of texts as the encoder reads them, uncut.
        """
        self.chunking = chunking
        self._count = count_tokens
        self._num_around = count_tokens([""])[0]  # prompt and special tokens

    def passages_of(self, document: Passage) -> list[Passage]:
        """Return the passages that stand for a document: itself, or its chunks.

        A title that takes over half of a chunk is shortened in the chunks.
        """
        text, longest = document.encoder_text, self.chunking.longest
        if self.chunking.tokens == 0 or self._must_fit(text):
            return [document]
        if self._count([text])[0] <= longest:
            return [document]
        title = self._title(document.title)
        spans = self._spans(document.text, title)
        if len(spans) == 1:
            return [document]
        name = document.passage_id + SEPARATOR
        return [
            replace(
                document,
                passage_id=f"{name}{number}",
                text=document.text[start:end],
                title=title,
                chunk=Chunk(document.passage_id, start, end),
            )
            for number, (start, end) in enumerate(spans, start=1)
        ]

    def _must_fit(self, text: str) -> bool:
        """Return whether a text is so short that its tokens need no count: one a letter at most."""
        return text.isascii() and len(text) + self._num_around + 1 <= self.chunking.longest

    def _title(self, title: str) -> str:
        words = title.split(" ")
        while words and self._count([" ".join(words)])[0] > self.chunking.tokens // 2:
            words = words[: len(words) // 2]
        return " ".join(words)

    def _spans(self, text: str, title: str) -> list[Span]:
        """Return where the chunks begin and end; each fits, with the title before it."""
        budget = self.chunking.tokens - self._count([title])[0]
        while True:
            spans = self._split(text, max(1, budget))
            texts = [f"{title} {text[start:end]}".strip() for start, end in spans]
            over = max(self._count(texts)) - self.chunking.tokens
            if over <= 0 or budget <= 1:  # the tokens of sentences add up, but for a few
                return spans
            budget -= over

    def _split(self, text: str, budget: int) -> list[Span]:
        pieces = [
            part
            for start, end in sentences(text)
            for part in self._fitting(text, start, end, budget)
        ]
        sizes = self._sizes(text, pieces)
        overlap = min(self.chunking.overlap, budget // 2)
        return join_pieces(text, pieces, sizes, budget, overlap)

    def _sizes(self, text: str, pieces: Sequence[Span]) -> list[int]:
        counts = self._count([text[start:end] for start, end in pieces])
        return [count - self._num_around for count in counts]

    def _fitting(self, text: str, start: int, end: int, budget: int) -> list[Span]:
        """Return the parts of a sentence that fit, halved between words where there are any."""
        if end - start <= 1 or self._sizes(text, [(start, end)])[0] <= budget:
            return [(start, end)]
        middle = (start + end) // 2
        spaces = (text.find(" ", middle, end - 1) + 1, text.rfind(" ", start, middle) + 1)
        cut = next((cut for cut in spaces if cut > start), middle)
        return [
            *self._fitting(text, start, cut, budget),
            *self._fitting(text, cut, end, budget),
        ]


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
