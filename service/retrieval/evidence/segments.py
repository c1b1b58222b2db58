"""Segments of a passage: its sentences, and the items of its lists; computes no vectors.

A segment ends with a sentence, at a semicolon, at the end of a line, and before a label such as
`note:` or, after a closing bracket, `urban population:`.
"""

import re

from service.retrieval.corpus.reader import Passage

Span = tuple[int, int]
MIN_CHARACTERS = 25  # a shorter segment is joined to the next one
BOUNDARY = re.compile(
    r"""(?P<stop>[.!?…]+["'”’»)\]]*)\s+|[。！？।॥؟۔]["'”’»」』）]*\s*|;\s+|\s*\n\s*"""
    r"""|(?<=\))\s+(?=[^\W\d_][\w/-]*(?:[ ][\w/-]+){0,3}:\s)|\s+(?=[Nn]otes?:\s)"""
)
# A stop after one of these ends no sentence: titles, units, and words before a number or a name.
ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘-])(?:[^\W\d_](?:\.[^\W\d_])*|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Gov|Sen|Rep|Col|"
    r"Lt|Sgt|Capt|Rev|Hon|Mt|Ft|No|Nos|vs|cf|ca|approx|incl|est|etc|al|Inc|Ltd|Corp|Co|Bros|pp|vol|"
    r"fig|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.$",
)
LOOK_BACK = 12  # characters that an abbreviation is looked for in


def spans_of(text: str) -> list[Span]:
    """Return where the segments of a text start and end, without the space around them.

    >>> text = "It is in Washington, D.C. today. Note: moved in 1800 by Mr. Adams; none lived here."
    >>> [text[start:end] for start, end in spans_of(text)]
    ['It is in Washington, D.C. today.', 'Note: moved in 1800 by Mr. Adams; none lived here.']
    """
    spans: list[Span] = []
    start = 0
    for end, following in [*_boundaries(text), (len(text), len(text))]:
        spans.append((start, end))
        start = following
    return _joined(text, spans)


def segments_of(passage: Passage) -> tuple[list[Span], list[str]]:
    """Return where the segments of a passage are, and the texts that are encoded for them.

    A single one is left out: nothing stands out in it.
    """
    spans = spans_of(passage.text)
    if len(spans) == 1:
        spans = []
    return spans, segment_texts(passage, spans)


def segment_texts(passage: Passage, spans: list[Span]) -> list[str]:
    """Return the texts that stand for segments: each with the passage's title before it."""
    return [f"{passage.title} {passage.text[start:end]}".strip() for start, end in spans]


def _boundaries(text: str) -> list[Span]:
    """Return where segments end, and where the next ones start."""
    found = []
    for match in BOUNDARY.finditer(text):
        stop = match["stop"]
        end = match.start() + len(match[0].rstrip())
        if stop is not None and _continues(text, end, match.end()):
            continue
        found.append((end, match.end()))
    return found


def _continues(text: str, end: int, following: int) -> bool:
    """Return whether a sentence goes on after a full stop."""
    if text[following : following + 1].islower():
        return True
    return ABBREVIATION.search(text[max(0, end - LOOK_BACK) : end]) is not None


def _joined(text: str, spans: list[Span]) -> list[Span]:
    """Return the segments that are not empty; short ones are joined to the next."""
    found: list[Span] = []
    is_short = False
    for start, end in spans:
        if not text[start:end].strip():
            continue
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if is_short:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
        is_short = found[-1][1] - found[-1][0] < MIN_CHARACTERS
    if is_short and len(found) > 1:
        _, end = found.pop()
        found[-1] = (found[-1][0], end)
    return found
