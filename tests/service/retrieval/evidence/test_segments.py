import random

import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.evidence.segments import MIN_CHARACTERS, segment_texts, spans_of

LONG = "This sentence is long enough"


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in spans_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{LONG}. {LONG}!", [f"{LONG}.", f"{LONG}!"]),
        (f'He said "{LONG}." {LONG}?', [f'He said "{LONG}."', f"{LONG}?"]),
        (f"{LONG}; and {LONG}", [f"{LONG};", f"and {LONG}"]),
        (f"{LONG}\n\n{LONG}", [LONG, LONG]),
        (f"{LONG} note: {LONG}", [LONG, f"note: {LONG}"]),
        (
            f"{LONG} (2020) urban population: most of all of it",
            [f"{LONG} (2020)", "urban population: most of all of it"],
        ),
        (
            "これはとても長い文章ですから、二十五文字を超えます。" * 2,
            ["これはとても長い文章ですから、二十五文字を超えます。"] * 2,
        ),
    ],
)
def test_a_segment_ends_at_a_sentence_a_semicolon_a_line_and_a_label(
    text: str, expected: list[str]
) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"It was led by Dr. Livingstone and J. R. R. Tolkien in the U.S. Army, {LONG}.",
        f"It rose by 3.5 percent, i.e. less than before, {LONG}.",
        f"It met St. Peter in Jan. 1999 at approx. 12:30: {LONG}",
        f"It was short; {LONG[:10]}",
        "",
        "   ",
    ],
)
def test_an_abbreviation_a_number_and_a_short_part_end_no_segment(text: str) -> None:
    assert parts(text) == [text] * bool(text.strip())


def test_segments_are_in_order_do_not_overlap_and_hold_every_visible_letter() -> None:
    dice = random.Random(4)
    pieces = ["Nairobi", ". ", "; ", "\n", " note: ", "a", " ", "(x) ", "é!", "St. ", "日本。"]
    for _ in range(300):
        text = "".join(dice.choices(pieces, k=dice.randint(0, 60)))
        spans = spans_of(text)
        flat = [place for span in spans for place in span]
        assert flat == sorted(flat)
        assert "".join(parts(text)).replace(" ", "").replace("\n", "") == text.replace(
            " ", ""
        ).replace("\n", "")
        assert len(spans) < 2 or all(end - start >= MIN_CHARACTERS for start, end in spans)


def test_the_title_stands_before_each_segment() -> None:
    passage = Passage("a", f"{LONG}. {LONG}.", "Tea")

    assert segment_texts(passage, spans_of(passage.text)) == [f"Tea {LONG}."] * 2
