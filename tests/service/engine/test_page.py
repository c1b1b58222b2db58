import numpy as np
import pytest

from service.engine.page import Page
from service.retrieval.corpus.reader import Passage
from service.retrieval.hits import Hit
from service.retrieval.index.backend import MAX_TOP_K, Ranking


def hits(*texts: str) -> list[Hit]:
    return [Hit(rank, 0.5, Passage(f"p{rank}", text)) for rank, text in enumerate(texts, start=1)]


def ranking(num_rows: int, last_score: float = 0.5) -> Ranking:
    scores = np.full(num_rows, 0.5, np.float32)
    scores[-1:] = last_score
    return Ranking(scores, np.arange(num_rows))


@pytest.mark.parametrize(
    ("page", "depth"),
    [
        (Page(10), 10),
        (Page(10, 20), 30),
        (Page(10, fold=True), 20),
        (Page(10, without="a"), 11),
        (Page(MAX_TOP_K, fold=True), MAX_TOP_K),
    ],
)
def test_a_ranking_is_as_deep_as_its_page_needs(page: Page, depth: int) -> None:
    assert page.depth == depth


def test_offset_and_top_k_count_what_is_left() -> None:
    page = Page(2, offset=1, fold=True, without="p1")

    left = page.left(hits("a", "b", "B", "c", "d", "e"))

    assert [(hit.rank, hit.passage.text, hit.duplicates) for hit in page.cut(left)] == [
        (2, "c", 0),
        (3, "d", 0),
    ]


@pytest.mark.parametrize(
    ("num_left", "found", "depth", "expected"),
    [
        (3, ranking(20), 20, None),  # the page is full
        (2, ranking(20), 20, 80),
        (2, ranking(19), 20, None),  # there is nothing more
        (2, ranking(20, last_score=0.1), 20, None),  # the rest is below min_score
        (2, ranking(400), 400, MAX_TOP_K),
        (2, ranking(MAX_TOP_K), MAX_TOP_K, None),
        (0, None, 20, None),
    ],
)
def test_a_search_goes_deeper_until_its_page_is_full(
    num_left: int, found: Ranking | None, depth: int, expected: int | None
) -> None:
    page = Page(3, min_score=0.2, fold=True)

    assert page.deeper(hits("a")[:1] * num_left, found, depth) == expected
