import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from service.retrieval.corpus.chunks.chunker import Chunker
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.chunks.sentences import join_pieces, sentences
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import RetrievalError

WORDS = [
    "tea",
    "Nairobi",
    "mountain.",
    "1707",
    "harp?",
    "sun\n",
    "coast.\n\n",
    "茶。",
    "~" * 90,
    "",
]


def words(texts: list[str] | tuple[str, ...]) -> list[int]:
    """Count words, with two tokens around them."""
    return [len(text.split()) + 2 for text in texts]


def chunker(tokens: int, overlap: int = 0, limit: int = 512) -> Chunker:
    return Chunker(Chunking.of(limit, tokens, overlap), words)


def texts_of(passages: list[Passage]) -> list[str]:
    return [passage.text for passage in passages]


def document(*parts: str, title: str = "") -> Passage:
    return Passage("d", "".join(parts), title)


def sentence(number: int, length: int = 5) -> str:
    return " ".join([f"s{number}"] * length) + ". "


def test_a_document_that_fits_is_one_passage_with_its_own_id() -> None:
    whole = document("one two three")

    assert chunker(16).passages_of(whole) == [whole]


@pytest.mark.parametrize("size", [14, 15, 16])
def test_only_a_document_over_the_limit_is_split(size: int) -> None:
    found = chunker(16).passages_of(document(" ".join(["a"] * size)))

    assert (len(found) > 1) == (size + 2 > 16)


def test_by_default_documents_within_the_encoders_limit_are_whole() -> None:
    by_default = Chunker(Chunking.of(512), words)
    fitting, long = document(sentence(0) * 102), document(sentence(0) * 103)

    assert by_default.passages_of(fitting) == [fitting]
    assert len(by_default.passages_of(long)) == 7


def test_a_chunk_knows_its_document_and_where_it_is() -> None:
    found = chunker(16).passages_of(
        Passage("d", sentence(1) + sentence(2) + sentence(3) + sentence(4), "T", {"page": 3})
    )

    assert [passage.passage_id for passage in found] == ["d#1", "d#2"]
    assert [passage.chunk for passage in found if passage.chunk] == [found[0].chunk, found[1].chunk]
    assert {passage.document_id for passage in found} == {"d"}
    assert [(passage.title, passage.metadata) for passage in found] == [("T", {"page": 3})] * 2
    assert texts_of(found) == [sentence(1) + sentence(2), sentence(3) + sentence(4)]


def test_the_title_before_each_chunk_counts() -> None:
    parts = [sentence(number, 4) for number in range(6)]

    without = chunker(16).passages_of(document(*parts))
    titled = chunker(16).passages_of(document(*parts, title="a title of six words long"))

    assert (len(without), len(titled)) == (2, 3)
    assert max(words([passage.encoder_text for passage in titled])) <= 16


def test_a_title_that_takes_over_half_of_a_chunk_is_shortened() -> None:
    title = " ".join(["t"] * 40)

    found = chunker(16).passages_of(document(*[sentence(n) for n in range(5)], title=title))

    assert {passage.title for passage in found} == {"t t t t t"}


def test_chunks_repeat_whole_sentences_of_the_one_before() -> None:
    parts = [sentence(number, 4) for number in range(5)]

    found = chunker(16, overlap=5).passages_of(document(*parts))

    assert texts_of(found) == ["".join(parts[:2]), "".join(parts[1:4]), "".join(parts[3:])]


def test_a_chunk_that_is_half_full_ends_before_an_empty_line() -> None:
    first, second = sentence(1) + sentence(2).strip() + "\n\n", sentence(3) + sentence(4)

    found = chunker(21).passages_of(document(first, second))

    assert texts_of(found) == [first, second]


@pytest.mark.parametrize("heading", ["# Two\n", "## Two\n\n", "The second\n\n"])
def test_a_heading_stays_with_what_follows_it(heading: str) -> None:
    before = sentence(1) + sentence(2).strip() + "\n"

    found = chunker(17).passages_of(document(before, heading, sentence(3), sentence(4)))

    assert texts_of(found) == [before, heading + sentence(3) + sentence(4)]


def test_a_sentence_over_the_limit_is_split_between_words() -> None:
    found = chunker(16).passages_of(document(" ".join(f"w{number}" for number in range(40))))

    assert "".join(texts_of(found)).split() == [f"w{number}" for number in range(40)]
    assert max(words(texts_of(found))) <= 16


def test_without_splitting_a_long_document_stays_as_it_is() -> None:
    long = document(*[sentence(number) for number in range(500)])

    assert Chunker(Chunking.of(512, 0), words).passages_of(long) == [long]


@pytest.mark.parametrize("seed", range(20))
def test_chunks_cover_any_document_and_fit_the_encoder(tiny_encoder: Encoder, seed: int) -> None:
    dice = random.Random(seed)
    text = " ".join(dice.choices(WORDS, k=dice.randint(1, 120))) + "."
    overlap = dice.choice([0, 0, 8])
    chunking = Chunking.of(64, dice.choice([24, 40, 64, None]), overlap)
    whole = Passage("d", text, dice.choice(["", "A title"]))

    found = Chunker(chunking, tiny_encoder.count_passage_tokens).passages_of(whole)
    again = Chunker(chunking, tiny_encoder.count_passage_tokens).passages_of(whole)

    assert found == again
    if len(found) == 1:
        assert found == [whole]
        return
    places = [(each.chunk.start, each.chunk.end) for each in found if each.chunk]
    assert places[0][0] == 0 and places[-1][1] == len(text)
    assert all(start < after <= end < last for (start, end), (after, last) in pairwise(places))
    assert overlap or all(end == after for (_, end), (after, _) in pairwise(places))
    assert texts_of(found) == [text[start:end] for start, end in places]
    counts = tiny_encoder.count_passage_tokens([each.encoder_text for each in found])
    assert max(counts) <= chunking.tokens


@pytest.mark.parametrize("text", ["", "a", "a. b", "\n\n", "a\n\nb", "no end", "茶。茶", "a.b. c"])
def test_sentences_cover_a_text(text: str) -> None:
    spans = sentences(text)

    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three", ["One. ", "Two? ", "Three"]),
        ("It is 3.5 m. High.", ["It is 3.5 m. ", "High."]),
        ('He said "no." Then.', ['He said "no." ', "Then."]),
        ("चाय। नदी।", ["चाय। ", "नदी।"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("A wrapped\nline. Two", ["A wrapped\nline. ", "Two"]),
        ("Title\n\nText", ["Title\n\n", "Text"]),
        ("a\n# Two\nb", ["a\n", "# Two\n", "b"]),
    ],
)
def test_a_sentence_ends_where_readers_see_its_end(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_pieces_without_a_token_begin_no_chunk() -> None:
    pieces = [(0, 2), (2, 4), (4, 6)]

    assert join_pieces("aabb\n\n", pieces, [5, 5, 0], 5, 0) == [(0, 2), (2, 6)]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((64, 8), r"^--chunk-tokens 8 is not between 16 and 64"),
        ((64, 65), r"^--chunk-tokens 65 is not between 16 and 64"),
        ((64, 32, 17), r"^--chunk-overlap 17 is over half of a chunk of 32 tokens"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(
    numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RetrievalError, match=message):
        Chunking.of(*numbers)


def late(tokens: int, overlap: int, limit: int) -> Chunker:
    return Chunker(Chunking.of(limit, tokens, overlap, is_late=True), words)


@pytest.mark.parametrize("overlap", [0, 6])
@pytest.mark.parametrize("title", ["", "two words"])
def test_late_chunks_are_those_of_early_ones_in_windows_that_the_encoder_reads(
    overlap: int, title: str
) -> None:
    long = document(*[sentence(number) for number in range(40)], title=title)

    found = late(16, overlap, 64).passages_of(long)

    early = chunker(16, overlap, 64).passages_of(long)
    assert [each.chunk for each in found] == [each.chunk for each in early]
    windows = []
    for each in found:
        assert each.around is not None
        assert each.chunk is not None
        before, after = each.around
        window = before.removeprefix(f"{title} " if title else "") + each.text + after
        start = each.chunk.start - (len(window) - len(after) - len(each.text))
        assert long.text[start : start + len(window)] == window
        windows.append(f"{title} {window}".strip())
    assert max(words(windows)) <= 64
    num_windows = len(dict.fromkeys(windows))
    assert num_windows <= -(-sum(words(windows)) // 64)
    sizes = [windows.count(window) for window in dict.fromkeys(windows)]
    assert max(sizes) - min(sizes) <= 1


def test_a_chunk_that_fits_in_no_window_with_another_is_embedded_alone() -> None:
    found = late(16, 0, 16).passages_of(document(*[sentence(number) for number in range(6)]))

    assert {each.around for each in found} == {("", "")}


@pytest.mark.parametrize("limit", [16, 64])
def test_a_window_fits_with_the_space_at_its_end(limit: int) -> None:
    def spaced(texts: Sequence[str]) -> list[int]:
        return [len(text.split(" ")) + 2 for text in texts]  # a space at the end is a token

    long = document(*[sentence(number) for number in range(40)])

    found = Chunker(Chunking.of(limit, 16, 0, is_late=True), spaced).passages_of(long)

    read = ["".join(each.encoded_text) for each in found]
    assert max(spaced(read)) <= limit
    assert any(text.endswith(" ") for text in read)


def test_a_document_that_fits_has_nothing_around_it() -> None:
    whole = document("one two three")

    assert late(16, 0, 64).passages_of(whole) == [whole]
    assert whole.around is None


def test_late_chunks_need_chunks() -> None:
    with pytest.raises(RetrievalError, match="--late-chunking embeds chunks, and --no-chunk"):
        Chunking.of(64, 0, is_late=True)
