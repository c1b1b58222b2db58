"""Which passages may answer, though nobody judged them."""

import pytest

from service.retrieval.corpus.reader import Passage
from trainer.calibration.articles import Articles

ARTICLES = Articles(
    [
        Passage("0", "It flows north.", "Nile"),
        Passage("1", "Its length is 6,650 km.", "Nile"),
        Passage("2", "It rises near Jinja, and was measured in 1862.", "White Nile of Uganda"),
        Passage("3", "Nothing of the kind.", ""),
        Passage("4", "Nor here.", ""),
        *(Passage(f"o{number}", "Other.", f"Other {number}") for number in range(100)),
    ]
)


def test_passages_are_related_by_their_title_or_an_uncommon_word_of_it() -> None:
    assert ARTICLES.related({0}) == {0, 1}  # "nile" is in 3 of 105 titles, which is common
    assert ARTICLES.related({3}) == {3}
    assert ARTICLES.related({5}) == {5}


def test_a_passage_of_the_gold_s_article_may_answer() -> None:
    assert ARTICLES.may_answer(1, [0], ())
    assert not ARTICLES.may_answer(2, [0], ())
    assert not ARTICLES.may_answer(4, [3], ())  # neither has a title


@pytest.mark.parametrize(
    ("answer", "holds"),
    [("Jinja", True), ("NEAR JINJA,", True), ("Jin", False), ("1862", True), ("2", False)],
)
def test_a_passage_that_holds_the_answer_as_whole_words_may_answer(
    answer: str, holds: bool
) -> None:
    assert ARTICLES.may_answer(2, [], (answer,)) is holds
