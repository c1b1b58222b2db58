from service.retrieval.corpus.reader import Passage
from service.retrieval.hits import Hit, fold_duplicates, leaders

LONG = "the quick brown fox jumps over the lazy dog and runs away from it all day long"


def hits(*texts: str) -> list[Hit]:
    return [
        Hit(rank, 1 - rank / 10, Passage(str(rank), text))
        for rank, text in enumerate(texts, start=1)
    ]


def words(text: str, start: int, word: str) -> str:
    return " ".join([*text.split()[:start], word, *text.split()[start + 1 :]])


def test_a_hit_that_repeats_a_better_one_is_folded_into_it() -> None:
    found = fold_duplicates(hits(LONG, "tea", LONG.upper() + "!", "Tea.", words(LONG, 0, "a")))

    assert [(hit.rank, hit.passage.passage_id, hit.duplicates) for hit in found] == [
        (1, "1", 2),
        (2, "2", 1),
    ]
    assert [hit.as_dict()["duplicates"] for hit in found] == [2, 1]


def test_texts_that_share_less_than_four_fifths_are_kept() -> None:
    """One word in the middle changes three of fifteen runs: 12 of 18 are common."""
    found = fold_duplicates(hits(LONG, words(LONG, 8, "big")))

    assert [hit.duplicates for hit in found] == [0, 0]


def test_the_same_text_under_another_title_is_a_duplicate() -> None:
    assert leaders([Passage("1", "one two", "A"), Passage("2", "one two", "B")]) == [0, 0]


def test_texts_without_words_are_compared_as_they_are() -> None:
    assert leaders([Passage(str(n), text) for n, text in enumerate("?!?")]) == [0, 1, 0]


def test_a_hit_that_was_not_folded_says_nothing_of_duplicates() -> None:
    assert "duplicates" not in hits("tea")[0].as_dict()
