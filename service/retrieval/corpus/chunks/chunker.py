"""The chunker: one document in, the passages that stand for it out.

A document that fits is one passage with its own id; only a longer one is split, between sentences.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from service.retrieval.corpus.chunks.chunking import SEPARATOR, Chunking
from service.retrieval.corpus.chunks.sentences import Span, join_pieces, sentences
from service.retrieval.corpus.reader import Chunk, Passage

CountTokens = Callable[[Sequence[str]], list[int]]


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
        num_tokens = self._count([text])[0]
        if num_tokens <= longest:
            return [document]
        title = self._title(document.title)
        spans = self._spans(document.text, title)
        if len(spans) == 1:
            return [document]
        windows = self._windows(document.text, title, spans, num_tokens)
        name = document.passage_id + SEPARATOR
        return [
            replace(
                document,
                passage_id=f"{name}{number}",
                text=document.text[start:end],
                title=title,
                chunk=Chunk(document.passage_id, start, end),
                around=window and around(document.text, title, window, (start, end)),
            )
            for number, ((start, end), window) in enumerate(
                zip(spans, windows, strict=True), start=1
            )
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
            over = max(self._count(self._read(text, title, spans))) - self.chunking.tokens
            if over <= 0 or budget <= 1:  # the tokens of sentences add up, but for a few
                return spans
            budget -= over

    def _read(self, text: str, title: str, spans: Sequence[Span]) -> list[str]:
        """Return parts of a text as the encoder reads them: late ones with the space at their end.

        Such a space may be a token.
        """
        read = [(f"{title} " if title else "") + text[start:end] for start, end in spans]
        return read if self.chunking.window else [each.strip() for each in read]

    def _windows(
        self, text: str, title: str, spans: Sequence[Span], num_tokens: int
    ) -> Sequence[Span | None]:
        """Return the window of each chunk: as few as can be, of about equal numbers of chunks.

        Args:
            text: the document's.
            title: stands before each window.
            spans: of the chunks.
            num_tokens: of the document.
        """
        if self.chunking.window == 0:
            return [None] * len(spans)
        for number in range(-(-num_tokens // self.chunking.window), len(spans)):
            bounds = [len(spans) * part // number for part in range(number + 1)]
            windows = [(spans[first][0], spans[last - 1][1]) for first, last in pairwise(bounds)]
            if max(self._count(self._read(text, title, windows))) <= self.chunking.window:
                sizes = [last - first for first, last in pairwise(bounds)]
                return [
                    window for window, size in zip(windows, sizes, strict=True) for _ in range(size)
                ]
        return spans

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


def around(text: str, title: str, window: Span, chunk: Span) -> tuple[str, str]:
    """Return what stands before and after a chunk in its window.

    >>> around("One. Two. Three. Four.", "T", (5, 17), (5, 10))
    ('T ', 'Three. ')
    """
    before = f"{title} " if title else ""
    return before + text[window[0] : chunk[0]], text[chunk[1] : window[1]]
